"use strict";
(() => {
const held = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const byId = (id) => document.getElementById(id);

// Colours: a token "@name" or "@name/opacity" takes its value from the theme that is showing.
function colour(token) {
  const [name, opacity] = token.slice(1).split("/");
  const hex = getComputedStyle(root).getPropertyValue("--" + name).trim();
  if (!opacity) return hex;
  const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return `rgba(${parts.join(",")},${opacity})`;
}
function resolved(value) {
  if (typeof value === "string") return /^@[a-z]+\d?(\/[\d.]+)?$/.test(value) ? colour(value) : value;
  if (Array.isArray(value)) return value.map(resolved);
  if (value === null || typeof value !== "object" || "bdata" in value) return value;
  return Object.fromEntries(Object.entries(value).map(([key, own]) => [key, resolved(own)]));
}
function merged(base, extra) {
  const out = { ...base };
  for (const [key, own] of Object.entries(extra)) {
    const both = own && out[key] && typeof own === "object" && !Array.isArray(own);
    out[key] = both ? merged(out[key], own) : own;
  }
  return out;
}

// Plots: drawn when near the view, drawn again when the theme or the width class changes.
const plots = [...document.querySelectorAll("[data-figure]")];
const drawn = new Map();
let printing = false;
const touch = matchMedia("(pointer: coarse)").matches;
const config = { displayModeBar: false, responsive: false, doubleClick: "reset", showTips: false };

function draw(place) {
  const figure = held.figures[place.dataset.figure];
  const narrow = place.clientWidth < 400;
  const layout = merged(narrow ? merged(figure.layout, figure.narrow) : figure.layout, {
    template: held.template, dragmode: touch ? false : "zoom", autosize: false,
    width: place.clientWidth, height: place.clientHeight,
  });
  let data = figure.data;
  const choice = figure.choices && figure.choices[figure.chosen || Object.keys(figure.choices)[0]];
  if (choice) {
    data = [merged(data[0], { marker: choice.marker, hovertext: choice.hover }), ...data.slice(1)];
    showKey(place.dataset.figure, choice.key);
  }
  drawn.set(place, { narrow, width: place.clientWidth });
  return Plotly.react(place, resolved(data), resolved(layout), config);
}
function redraw() {
  if (printing) return;
  for (const place of drawn.keys()) draw(place);
}
function showKey(name, entries) {
  const key = document.querySelector(`[data-key="${name}"]`);
  if (!key) return;
  key.replaceChildren(...entries.map(([label, token, symbol]) => {
    const item = document.createElement("span");
    item.className = `swatch ${symbol} ${token.slice(1)}`;
    item.textContent = label.replaceAll("_", " ");
    return item;
  }));
}
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    near.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "700px 0px" });
let waiting = 0;
const resized = new ResizeObserver(() => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => {
    if (printing) return;
    for (const [place, state] of drawn) if (state.width !== place.clientWidth) draw(place);
  });
});
for (const place of plots) { near.observe(place); resized.observe(place); }
for (const select of document.querySelectorAll("[data-colours]")) {
  select.addEventListener("change", () => {
    const name = select.dataset.colours;
    held.figures[name].chosen = select.value;
    draw(document.querySelector(`[data-figure="${name}"]`));
  });
}
// Paper is light, and its columns are narrower than the screen's: plots scale as pictures.
let shownTheme = null;
function fitPaper(place) {
  for (const svg of place.querySelectorAll(".main-svg")) {
    const [width, height] = ["width", "height"].map((side) => svg.getAttribute(side));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  }
}
addEventListener("beforeprint", () => {
  printing = true;
  shownTheme = root.dataset.theme;
  root.dataset.theme = "light";
  for (const details of document.querySelectorAll("details")) details.open = true;
  for (const place of plots) {
    near.unobserve(place);
    // A plot that was still being drawn for the screen is fitted once it is done.
    draw(place).then(() => { if (printing) fitPaper(place); });
    place.style.aspectRatio = `${place.clientWidth} / ${place.clientHeight}`;
    fitPaper(place);
  }
});
addEventListener("afterprint", () => {
  printing = false;
  root.dataset.theme = shownTheme;
  for (const place of plots) {
    place.style.aspectRatio = "";
    for (const svg of place.querySelectorAll(".main-svg")) svg.removeAttribute("viewBox");
  }
  redraw();
});

// Theme: the system's until the reader chooses.
const toggle = byId("theme");
function showTheme() {
  const dark = root.dataset.theme === "dark";
  toggle.setAttribute("aria-pressed", String(dark));
  toggle.setAttribute("aria-label", "Dark theme");
  toggle.textContent = dark ? "Light" : "Dark";
  redraw();
}
toggle.addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("melisma-theme", root.dataset.theme); } catch {}
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  let kept = null;
  try { kept = localStorage.getItem("melisma-theme"); } catch {}
  if (kept) return;
  root.dataset.theme = event.matches ? "dark" : "light";
  showTheme();
});
showTheme();

// Navigation: the section being read is marked.
const links = new Map([...document.querySelectorAll(".bar nav a")].map((a) => [a.hash.slice(1), a]));
const reading = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(entry.target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const id of links.keys()) reading.observe(byId(id));

// Tables: sorted, filtered and saved here; nothing leaves the page.
if (!held.tables.length) return;
const STEP = 20;
const words = {
  delta_beta: "Δβ", ci_low: "95% from", ci_high: "to", p_family: "family-wise p",
  n_used: "samples", between: "largest between", delta_shift: "Δβ beyond the shift",
  p_shift: "p beyond the shift", nearest_name: "nearest gene", tss_distance: "bases from its start",
  island_relation: "island",
};
const probabilities = ["p", "q", "p_family", "p_shift"];
const signed = ["delta_beta", "ci_low", "ci_high", "statistic", "delta_shift"];
const state = { table: held.tables[0], column: null, descending: false, rows: [], shown: STEP };

function probability(p) {
  if (p >= 0.995) return "1";
  if (p >= 0.1) return p.toFixed(2).slice(1);
  if (p >= 0.00095) return p.toFixed(p >= 0.00995 ? 3 : 4).slice(1);
  if (p < 1e-300) return "< 10⁻³⁰⁰";
  const [mantissa, exponent] = p.toExponential(1).split("e");
  const raised = [...String(Number(exponent))].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
  return `${mantissa} × 10${raised.join("")}`;
}
function shown(name, value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return value;
  if (probabilities.includes(name)) return probability(value);
  if (Number.isInteger(value) && !signed.includes(name)) {
    return value.toLocaleString("en").replace("-", "−");
  }
  const size = Math.abs(value);
  // A slope is small for one unit of its covariate: two of its digits are shown.
  const digits = size && size < 0.01 ? Math.min(1 - Math.floor(Math.log10(size)), 8) : 2;
  const text = size.toFixed(name === "df" ? 1 : digits);
  const sign = value < 0 ? "−" : signed.includes(name) ? "+" : "";
  return sign + text;
}
function visible() {
  return state.table.columns.filter((name) => !state.table.unseen.includes(name));
}
function written(row, name) {
  if (name !== "region") return shown(name, cell(row, name));
  const [start, end] = ["start", "end"].map((edge) => cell(row, edge).toLocaleString("en"));
  return `${cell(row, "contig")}:${start}–${end}`;
}
function cell(row, name) {
  return state.table.values[state.table.columns.indexOf(name)]?.[row];
}
function matches(row, terms) {
  return terms.every((term) => {
    const range = term.replaceAll(",", "").match(/^(\S+):(\d+)[-–](\d+)$/);
    if (range) {
      const start = cell(row, "start") ?? cell(row, "position");
      const end = cell(row, "end") ?? start + 1;
      return cell(row, "contig")?.toLowerCase() === range[1] && start < +range[3] && end > +range[2];
    }
    return state.table.columns.some((name, i) => {
      const value = state.table.values[i][row];
      return typeof value === "string"
        ? value.toLowerCase().includes(term)
        : value !== null && String(value) === term.replaceAll(",", "");
    });
  });
}
function choose() {
  const { table } = state;
  const terms = byId("table-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const only = byId("table-significant").checked;
  const rows = [...table.values[0].keys()];
  const q = table.values[table.columns.indexOf("q")];
  state.rows = rows.filter(
    (row) => (!only || (q[row] !== null && q[row] < table.threshold)) && matches(row, terms),
  );
  if (state.column !== null) {
    const values = table.values[table.columns.indexOf(state.column)];
    const way = state.descending ? -1 : 1;
    state.rows.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null);
      const order = typeof values[a] === "number"
        ? values[a] - values[b]
        : values[a].localeCompare(values[b], "en", { numeric: true });
      return way * order || a - b;
    });
  }
}
function show() {
  const { table } = state;
  const numeric = (name) => table.values[table.columns.indexOf(name)].some((v) => typeof v === "number");
  const head = document.createElement("tr");
  const kinds = new Map(visible().map((name) => [name, numeric(name) ? "number" : "name"]));
  for (const [name, kind] of kinds) {
    const th = document.createElement("th");
    th.scope = "col";
    th.className = kind;
    if (state.column === name) th.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words[name] || name;
    button.dataset.column = name;
    button.addEventListener("click", () => {
      state.descending = state.column === name && !state.descending;
      state.column = name;
      choose();
      show();
      document.querySelector(`#table button[data-column="${name}"]`).focus();
    });
    th.append(button);
    head.append(th);
  }
  document.querySelector("#table thead").replaceChildren(head);
  const q = table.values[table.columns.indexOf("q")];
  document.querySelector("#table tbody").replaceChildren(...state.rows.slice(0, state.shown).map((row) => {
    const tr = document.createElement("tr");
    if (q[row] !== null && q[row] < table.threshold) tr.className = "called";
    for (const [name, kind] of kinds) {
      const td = document.createElement("td");
      td.className = kind;
      td.textContent = written(row, name);
      tr.append(td);
    }
    return tr;
  }));
  const total = table.values[0].length;
  const kept = total < table.tested ? `the ${total.toLocaleString("en")} strongest of ${table.tested.toLocaleString("en")}` : total.toLocaleString("en");
  const count = Math.min(state.shown, state.rows.length).toLocaleString("en");
  byId("table-count").textContent =
    `${count} rows shown of ${state.rows.length.toLocaleString("en")} that match, from ${kept}; ` +
    `positions are 0-based. The whole table is tables/${table.key}.parquet.`;
  byId("table-more").hidden = state.shown >= state.rows.length;
}
function open(key) {
  state.table = held.tables.find((table) => table.key === key) || held.tables[0];
  Object.assign(state, { column: null, descending: false, shown: STEP });
  byId("table-choice").value = state.table.key;
  byId("table-threshold").textContent = `q < ${String(state.table.threshold).replace(/^0/, "")} only`;
  choose();
  show();
}
byId("table-choice").addEventListener("change", (event) => open(event.target.value));
for (const control of [byId("table-filter"), byId("table-significant")]) {
  control.addEventListener("input", () => { state.shown = STEP; choose(); show(); });
}
byId("table-controls").addEventListener("submit", (event) => event.preventDefault());
byId("table-more").addEventListener("click", () => { state.shown += 5 * STEP; show(); });
byId("table-download").addEventListener("click", () => {
  const { table } = state;
  const lines = [table.columns, ...state.rows.map((row) => table.values.map((column) => column[row] ?? ""))];
  const text = lines.map((line) => line.join("\t")).join("\n") + "\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/tab-separated-values" }));
  link.download = table.key + ".tsv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
for (const link of document.querySelectorAll("[data-table]")) {
  link.addEventListener("click", () => open(link.dataset.table));
}
open(held.tables[0].key);
})();
