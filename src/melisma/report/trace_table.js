"use strict";
// Every edge of a trace as a table: sorted by a column, filtered by sign and name, some rows at a time.
function traceTable({ graph, trace, state, find, form, make, sign, signed, number, decimals, choose }) {
  const STEP = 20;
  // The last is no column, and the order at first.
  const columns = [
    ["source", "From", "name", (e) => e.source], ["target", "To", "name", (e) => e.target],
    ["effect", "Effect", "number", (e) => e.effect], ["error", "± error", "number", (e) => e.error],
    ["unit", "Unit", "name", (e) => e.evidence.unit ?? (e.to === graph.outcome ? trace.unit : "")],
    ["method", "Method", "name", (e) => e.method], ["size", "", "", (e) => Math.abs(e.effect)],
  ];
  const shown = columns.slice(0, -1).filter(([key, , , value]) =>
    !["unit", "method"].includes(key) || graph.edges.some((e) => value(e)));
  let by = "size", descending = true, many = STEP;

  function rows() {
    const words = form.find.value.trim().toLowerCase();
    const own = graph.edges.filter((e) =>
      (!state.sign || Math.sign(e.effect) === state.sign) && (!words || `${e.source}\n${e.target}`.toLowerCase().includes(words)));
    const value = columns.find(([key]) => key === by)[3];
    return own.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const way = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
      return (descending ? -way : way) || a.index - b.index;
    });
  }
  function head([key, word, kind]) {
    const sort = () => {
      descending = by === key ? !descending : kind === "number";
      by = key;
      list();
      find(`[data-column=${key}]`).focus();
    };
    const button = make("button", { type: "button", "data-column": key, onclick: sort }, word);
    const order = by === key ? (descending ? "descending" : "ascending") : null;
    return make("th", { scope: "col", class: kind, "aria-sort": order }, button);
  }
  function cell(edge, [key, , kind, value]) {
    const digits = decimals(edge.effect, edge.error);
    if (key === "source" || key === "target") {
      const to = () => choose(graph.byName.get(edge[key]));
      return make("td", { class: kind }, make("button", { type: "button", class: "link", onclick: to }, edge[key]));
    }
    if (key === "effect") return make("td", { class: kind }, make("span", { class: `mark ${sign(edge)}` }), signed(edge.effect, digits));
    if (key === "error") return make("td", { class: kind }, edge.error === null ? "–" : number(edge.error, digits));
    return make("td", { class: kind }, value(edge) || "–");
  }
  function list() {
    const own = rows(), now = own.slice(0, many), all = graph.edges.length;
    find("thead").replaceChildren(make("tr", {}, ...shown.map(head)));
    find("tbody").replaceChildren(...now.map((edge) => make("tr", {}, ...shown.map((column) => cell(edge, column)))));
    const of = own.length < all ? ` that match, from ${all.toLocaleString("en")}` : "";
    find(".trace-count").textContent = `${now.length.toLocaleString("en")} ${now.length === 1 ? "row" : "rows"} shown of ${own.length.toLocaleString("en")}${of}.`;
    find("[name=more]").hidden = now.length >= own.length;
  }
  find("[name=more]").addEventListener("click", () => { many += 5 * STEP; list(); });
  return { list, again: () => { many = STEP; list(); } };
}
