"use strict";
// Traces: each is drawn, walked with mouse or keys, filtered, and told as a table.
(() => {
const held = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const WIDEST_LABEL = 230, LEAST = 0.72, HIGHEST = 1200;

function make(name, properties = {}, ...inside) {
  const drawn = ["svg", "g", "path", "rect", "text", "circle", "title"].includes(name);
  const element = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
  return element;
}

// Numbers: as many decimals as the error allows.
function decimals(value, error) {
  const size = Math.abs(error || value);
  if (!size || !isFinite(size)) return 2;
  return Math.min(Math.max((error ? 1 : 2) - Math.floor(Math.log10(size)), 0), 8);
}
function number(value, digits = decimals(value)) {
  const size = Math.abs(value);
  const text = size && size < 1e-6 ? size.toExponential(1) : size.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (value < 0 ? "−" : "") + text;
}
const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);
function effect(edge) {
  const digits = decimals(edge.effect, edge.error);
  return signed(edge.effect, digits) + (edge.error === null ? "" : ` ± ${number(edge.error, digits)}`);
}
const counted = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const sign = (edge) => (edge.effect < 0 ? "lowers" : "raises");
// Full where the effect is four of its errors or more.
function strength(edge) {
  if (edge.error === null) return 0.7;
  const ratio = edge.error > 0 ? Math.abs(edge.effect) / edge.error : Infinity;
  return 0.2 + 0.7 * Math.min(ratio / 4, 1);
}
function told(value) {
  if (Array.isArray(value)) return value.map(told).join(", ");
  if (value !== null && typeof value === "object") return Object.entries(value).map(([k, v]) => `${k} ${told(v)}`).join(", ");
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(3))).replace("-", "−");
  return String(value ?? "–").replace(/^-(?=\d)/, "−");
}
const spoken = (name) => name.replaceAll("_", " ");

const pen = document.createElement("canvas").getContext("2d");
function measured(text, size, weight = 400) {
  pen.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}
function cut(text, room, size, weight) {
  if (measured(text, size, weight) <= room) return text;
  let [low, high] = [1, text.length];
  while (high - low > 1) {
    const half = (low + high) >> 1;
    measured(text.slice(0, half) + "…", size, weight) <= room ? (low = half) : (high = half);
  }
  return text.slice(0, low) + "…";
}

function start(place) {
  // How many edges were asked for, in the page or with the slider; null: as many as can be read.
  let { trace, strongest: asked } = held.traces[place.dataset.trace];
  const graph = traceLayout.read(trace);
  const find = (selector) => place.querySelector(selector);
  const form = find("form"), svg = find(".trace-graph"), panel = find(".trace-panel"), tip = find(".trace-tip");
  const steps = traceLayout.steps(graph);
  const folded = graph.hosts.length > 2 || place.clientWidth < 560;
  const open = new Set(folded ? [] : graph.hosts.map((host) => host.name));
  const state = { strongest: 1, sign: 0, open, kept: null };
  const view = { x: 0, y: 0, k: 1 };
  let drawn, placed, scene, marks, lit = null;

  const hung = (host) => graph.nodes.filter((n) => n.under === host.name).length;
  const valued = (node) => (node.value === null ? "" : told(node.value));
  // In its own zone a node needs no more than its name before it was joined.
  const called = (node) => (node.under !== null && node.name.startsWith(`${node.under}: `) ? node.name.slice(node.under.length + 2) : node.name);
  const weight = (node) => (node === graph.outcome ? 620 : 400);
  const chip = (node) => (graph.hosts.includes(node) ? measured(hung(node), 11) + 30 : 0);
  function wide(node) {
    const value = valued(node);
    const text = Math.min(measured(called(node), 13, weight(node)), WIDEST_LABEL);
    return Math.ceil(Math.max(44, text + 22 + (value ? measured(value, 12) + 12 : 0) + chip(node)));
  }

  // What leads from a node to the outcome, and what enters it.
  function ways(node) {
    const nodes = new Set([node]), edges = new Set(), waiting = [node];
    while (waiting.length) {
      const from = waiting.pop();
      for (const edge of drawn.edges) {
        if (edge.from !== from || edges.has(edge)) continue;
        edges.add(edge);
        if (!nodes.has(edge.to)) { nodes.add(edge.to); waiting.push(edge.to); }
      }
    }
    for (const edge of drawn.edges) if (edge.to === node) { edges.add(edge); nodes.add(edge.from); }
    return { nodes, edges };
  }
  function light() {
    const node = lit ?? state.kept;
    svg.classList.toggle("focused", Boolean(node));
    const on = node ? ways(node) : { nodes: new Set(), edges: new Set() };
    const words = form.find.value.trim().toLowerCase();
    for (const [own, mark] of marks.boxes) {
      mark.classList.toggle("lit", on.nodes.has(own));
      mark.classList.toggle("kept", own === state.kept);
      mark.classList.toggle("found", Boolean(words) && own.name.toLowerCase().includes(words));
      mark.setAttribute("aria-pressed", String(own === state.kept));
    }
    for (const [edge, mark] of marks.edges) mark.classList.toggle("lit", on.edges.has(edge));
  }
  function pointed(event, words) {
    if (!words) { tip.hidden = true; return; }
    tip.textContent = words;
    tip.hidden = false;
    const room = tip.parentNode.getBoundingClientRect();
    tip.style.left = `${Math.max(0, Math.min(event.clientX - room.left + 14, room.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${event.clientY - room.top + 18}px`;
  }

  function boxed({ node, x, y, wideBox, high, stands }) {
    const joined = stands ? trace.about.joined?.[node.name] : null;
    const name = joined?.outcome ?? called(node), own = stands ? 0 : chip(node);
    const value = stands ? (joined ? told(joined.total) : "") : valued(node);
    const mark = make("g", {
      class: `node${node === graph.outcome && !stands ? " outcome" : ""}${stands ? " stands" : ""}`,
      tabindex: -1, role: "button", transform: `translate(${x} ${y - high / 2})`,
      "aria-label": [stands ? `stands for ${node.name}:` : node.kind, name, value].filter(Boolean).join(" "),
    }, make("rect", { width: wideBox, height: high, rx: 5 }));
    const room = wideBox - 20 - own - (value ? measured(value, 12) + 10 : 0);
    mark.append(make("text", { x: 10 + own, y: high / 2 + 4.5, class: "name" }, cut(name, room, 13, stands ? 400 : weight(node))));
    if (value) mark.append(make("text", { x: wideBox - 10, y: high / 2 + 4.5, class: "value", "text-anchor": "end" }, value));
    if (own) {
      const shown = state.open.has(node.name);
      mark.append(make("g", { class: "chip", onclick: (event) => { event.stopPropagation(); unfold(node); } },
        make("title", {}, `${shown ? "Fold" : "Unfold"} what hangs under ${node.name}`),
        make("rect", { x: 5, y: high / 2 - 9, width: own - 2, height: 18, rx: 9 }),
        make("text", { x: 12, y: high / 2 + 4 }, `${shown ? "▾" : "▸"} ${hung(node)}`)));
    }
    mark.addEventListener("click", () => choose(state.kept === node ? null : node));
    mark.addEventListener("focus", () => { lit = node; light(); });
    mark.addEventListener("blur", () => { lit = null; light(); });
    mark.addEventListener("pointerenter", () => { lit = node; light(); });
    mark.addEventListener("pointermove", (event) => pointed(event, [name, value].filter(Boolean).join(": ")));
    mark.addEventListener("pointerleave", () => { lit = null; light(); pointed(); });
    return mark;
  }
  function headed(zone) {
    const mark = make("g", { class: zone.under === null ? "zone" : "zone under" });
    if (zone.under !== null) {
      mark.append(make("rect", { x: zone.left - 16, y: zone.top - 34, width: zone.right - zone.left + 32, height: zone.high + 48, rx: 10 }));
      const unit = trace.about.joined?.[zone.under]?.unit;
      const words = `Under ${zone.under}${unit ? `, in ${unit}` : ""}`;
      mark.append(make("text", { x: zone.left, y: zone.top - 14, class: "title" }, cut(words, Math.max(zone.right - zone.left, 120), 12)));
    }
    for (const { layer, x, wide: room, nodes } of zone.columns) {
      if (!nodes.length) continue;
      const kinds = [...new Set(nodes.map((n) => n.kind))].filter(Boolean);
      const every = graph.nodes.filter((n) => n.layer === layer && n.under === zone.under).length;
      const count = nodes.length < every ? ` ${nodes.length} of ${every.toLocaleString("en")}` : "";
      const words = kinds.join(", ") || `layer ${layer}`;
      mark.append(make("text", { x, y: zone.top + 14, class: "kind" }, cut(words + count, room + 70, 12)));
    }
    return mark;
  }
  function draw() {
    const before = document.activeElement?.closest?.(".node") && lit;
    drawn = traceLayout.chosen(graph, state);
    // The panel stands beside what leaves it room, and below what does not; columns use the rest.
    placed = traceLayout.layout(drawn, wide, (whole, n) => {
      const fits = (room, gap) => whole + (n - 1) * gap + 40 <= room;
      const below = place.clientWidth < 820 || !fits(place.clientWidth - 330, 110);
      place.classList.toggle("below", below);
      const room = place.clientWidth - (below ? 0 : 330) - 40;
      return Math.min(Math.max((room - whole) / Math.max(n - 1, 1), place.clientWidth < 560 ? 70 : 100), 260);
    });
    marks = { nodes: new Map(), edges: new Map(), boxes: [] };
    scene = make("g");
    for (const zone of placed.zones) scene.append(headed(zone));
    for (const { edge, width, d } of [...placed.curves].sort((a, b) => a.width - b.width)) {
      const mark = make("path", { d, class: `edge ${sign(edge)}${edge.error === null ? " unsure" : ""}`, "stroke-width": width.toFixed(1), style: `--strength: ${strength(edge).toFixed(2)}` });
      mark.addEventListener("pointermove", (event) => pointed(event, `${edge.source} → ${edge.target}: ${effect(edge)}`));
      mark.addEventListener("pointerleave", () => pointed());
      marks.edges.set(edge, mark);
      scene.append(mark);
    }
    for (const { d } of placed.ties) scene.append(make("path", { d, class: "tie" }));
    for (const box of placed.boxes) {
      const mark = boxed(box);
      if (!box.stands) marks.nodes.set(box.node, mark);
      scene.append(mark);
      marks.boxes.push([box.node, mark]);
    }
    svg.replaceChildren(scene);
    (marks.nodes.get(before) ?? marks.nodes.get(state.kept) ?? marks.nodes.get(graph.outcome)).setAttribute("tabindex", 0);
    if (before) marks.nodes.get(before)?.focus({ preventScroll: true });
    const top = Math.min(...placed.zones.map((z) => z.top - (z.under === null ? 0 : 34)));
    placed.frame = { x: -18, y: top - 6, width: placed.width + 36, height: placed.height - top + 26 };
    fit();
    light();
    status();
  }
  function status() {
    const edges = drawn.edges.length, every = graph.edges.length;
    const into = drawn.edges.filter((e) => e.to === graph.outcome && e.under === null);
    const whole = graph.outcome.sources.filter((e) => e.under === null);
    const total = (own) => own.reduce((a, e) => a + e.effect, 0);
    const words = edges === every
      ? [`The whole is drawn: ${counted(every, "edge")} and ${counted(drawn.nodes.length, "node")}.`]
      : [`${drawn.nodes.length.toLocaleString("en")} of ${counted(graph.nodes.length, "node")} and ${edges.toLocaleString("en")} of ${counted(every, "edge")} are drawn.`];
    if (into.length < whole.length) words.push(`Those into ${trace.outcome} sum to ${signed(total(into))} of ${signed(total(whole))}.`);
    const seek = form.find.value.trim().toLowerCase();
    if (seek) {
      const hits = graph.nodes.filter((n) => n.name.toLowerCase().includes(seek));
      const out = hits.filter((n) => !drawn.nodes.includes(n)).length;
      words.push(`${counted(hits.length, "node")} ${hits.length === 1 ? "has" : "have"} “${form.find.value.trim()}” in the name${out ? `, ${out} not drawn` : ""}${hits.length ? "; Enter goes to the first." : "."}`);
    }
    find(".trace-status").textContent = words.join(" ");
    form.querySelector("output").textContent = state.strongest === steps.at(-1) ? "all" : state.strongest;
    form.strongest.setAttribute("aria-valuetext", form.querySelector("output").textContent);
  }

  // Zoom and pan.
  function show() {
    scene.setAttribute("transform", `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.k.toFixed(3)})`);
    const left = view.x + placed.frame.x * view.k;
    svg.parentNode.classList.toggle("more-left", left < -20);
    svg.parentNode.classList.toggle("more-right", left + placed.frame.width * view.k > svg.clientWidth + 20);
  }
  function fit() {
    const { frame } = placed, room = svg.clientWidth || 600;
    view.k = Math.min(1, Math.max(room / frame.width, LEAST));
    const high = frame.height * view.k;
    svg.style.height = `${Math.round(Math.min(Math.max(high, 120), HIGHEST))}px`;
    // What does not fit is seen from the outcome's side.
    view.x = Math.min((room - frame.width * view.k) / 2, room - frame.width * view.k) - frame.x * view.k;
    if (frame.width * view.k <= room) view.x = -frame.x * view.k;
    view.y = -frame.y * view.k;
    show();
  }
  function zoom(factor, x = svg.clientWidth / 2, y = svg.clientHeight / 2) {
    const k = Math.min(Math.max(view.k * factor, 0.15), 4), ratio = k / view.k;
    Object.assign(view, { k, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio });
    show();
  }
  const fingers = new Map();
  svg.addEventListener("pointerdown", (event) => { if (event.button === 0) fingers.set(event.pointerId, event); });
  // The page hears a quick hand that has left the graph before it is known to drag.
  addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (fingers.size === 1) {
      if (!svg.classList.contains("dragged") && Math.hypot(dx, dy) < 4) return;
      svg.classList.add("dragged");
      view.x += dx; view.y += dy;
      show();
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (e) => Math.hypot(e.clientX - other.clientX, e.clientY - other.clientY);
      const box = svg.getBoundingClientRect();
      zoom(apart(event) / Math.max(apart(before), 1), other.clientX - box.left, other.clientY - box.top);
    }
    fingers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, (event) => { fingers.delete(event.pointerId); setTimeout(() => svg.classList.remove("dragged")); });
  svg.addEventListener("click", (event) => { if (svg.classList.contains("dragged")) event.stopPropagation(); }, true);
  svg.addEventListener("click", (event) => { if (event.target === svg || event.target.closest(".zone")) choose(null); });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  for (const button of place.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => (Number(button.dataset.zoom) ? zoom(Number(button.dataset.zoom)) : fit()));

  // Keys: arrows walk the boxes.
  svg.addEventListener("keydown", (event) => {
    const box = placed.boxes.find(({ node, stands }) => !stands && marks.nodes.get(node) === event.target);
    if (!box) return;
    const near = (own) => own.reduce((a, b) => (!a || Math.abs(b.y - box.y) < Math.abs(a.y - box.y) ? b : a), null);
    const beside = (way) => {
      const own = placed.boxes.filter((b) => !b.stands && (b.column - box.column) * way > 0);
      const column = way > 0 ? Math.min(...own.map((b) => b.column)) : Math.max(...own.map((b) => b.column));
      return near(own.filter((b) => b.column === column));
    };
    const along = (way) => near(placed.boxes.filter((b) => !b.stands && b.column === box.column && (b.y - box.y) * way > 0));
    const next = { ArrowLeft: () => beside(-1), ArrowRight: () => beside(1), ArrowUp: () => along(-1), ArrowDown: () => along(1) }[event.key];
    if (next) {
      const to = next();
      if (to) { marks.nodes.get(box.node).setAttribute("tabindex", -1); marks.nodes.get(to.node).setAttribute("tabindex", 0); marks.nodes.get(to.node).focus({ preventScroll: true }); seen(to); }
    } else if (event.key === "Enter" || event.key === " ") choose(state.kept === box.node ? null : box.node);
    else if (event.key === "Escape") choose(null);
    else if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(0.77);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  });
  function seen(box) {
    const [x, y] = [view.x + box.x * view.k, view.y + box.y * view.k];
    if (x < 0) view.x -= x - 12;
    if (x + box.wideBox * view.k > svg.clientWidth) view.x -= x + box.wideBox * view.k - svg.clientWidth + 12;
    if (y < 20) view.y -= y - 40;
    if (y > svg.clientHeight - 20) view.y -= y - svg.clientHeight + 40;
    show();
  }

  function choose(node) {
    const absent = node && !drawn.nodes.includes(node);
    const leaves = state.kept && !node;
    state.kept = node;
    if (node && node.under !== null) state.open.add(node.under);
    if (absent || leaves) draw(); else light();
    const box = node && placed.boxes.find((b) => b.node === node && !b.stands);
    if (box) seen(box);
    panel.replaceChildren(...told_of(node));
  }
  function unfold(host) {
    state.open.has(host.name) ? state.open.delete(host.name) : state.open.add(host.name);
    if (!asked) most(traceLayout.readable(graph, state));
    draw();
    panel.replaceChildren(...told_of(state.kept));
  }
  function told_of(node) { return tracePanel({ graph, trace, node, make, effect, number, told, spoken, counted, sign, hung, state, choose, unfold }); }

  const table = traceTable({ graph, trace, state, find, form, make, sign, signed, number, decimals, choose });

  // Controls.
  form.strongest.max = steps.length - 1;
  const nearest = (n) => Math.max(0, steps.findLastIndex((step) => step <= n));
  function most(n) {
    form.strongest.value = nearest(n);
    state.strongest = steps[nearest(n)];
  }
  most(asked ?? traceLayout.readable(graph, state));
  form.strongest.addEventListener("input", () => { asked = state.strongest = steps[form.strongest.value]; draw(); });
  form.sign.addEventListener("change", () => { state.sign = Number(form.sign.value); draw(); table.list(); });
  form.find.addEventListener("input", () => { light(); status(); table.again(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const words = form.find.value.trim().toLowerCase();
    const hits = words ? graph.nodes.filter((n) => n.name.toLowerCase().includes(words)) : [];
    if (hits.length) choose(hits.find((n) => n.name.toLowerCase() === words) ?? hits[0]);
  });
  form.save.addEventListener("click", () => {
    const link = make("a", { href: URL.createObjectURL(new Blob([JSON.stringify(trace, null, 1) + "\n"], { type: "application/json" })), download: `${place.dataset.trace}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  let width = place.clientWidth;
  new ResizeObserver(() => { if (place.clientWidth && place.clientWidth !== width) { width = place.clientWidth; draw(); } }).observe(place);
  addEventListener("beforeprint", () => {
    const { frame } = placed;
    scene.removeAttribute("transform");
    svg.setAttribute("viewBox", `${frame.x} ${frame.y} ${frame.width} ${frame.height}`);
    svg.style.height = "";
  });
  addEventListener("afterprint", () => { svg.removeAttribute("viewBox"); fit(); });
  document.fonts?.ready.then(draw);
  draw();
  table.again();
  panel.replaceChildren(...told_of(null));
  find(".trace-key").replaceChildren(...traceKey(graph, make));
}
for (const place of document.querySelectorAll("[data-trace]")) start(place);
})();
