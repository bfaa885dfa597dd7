"use strict";
// What a trace's panel says of a node, and the key below the graph.
const tracePanel = (() => {
const MOST = 12;

function list(it, heading, edges, end) {
  if (!edges.length) return [];
  const { make } = it;
  const own = [...edges].sort((a, b) => (a.under !== null) - (b.under !== null) || Math.abs(b.effect) - Math.abs(a.effect));
  const items = own.slice(0, MOST).map((edge) => {
    const evidence = Object.entries(edge.evidence).filter(([name]) => name !== "under" && name !== "unit");
    const words = [edge.method, ...evidence.map(([name, value]) => `${it.spoken(name)} ${it.told(value)}`)].filter(Boolean).join(" · ");
    const unit = edge.evidence.unit ?? (edge.to === it.graph.outcome && edge.under === null ? it.trace.unit : "");
    return make("li", {},
      make("button", { type: "button", class: "link", onclick: () => it.choose(edge[end]) }, edge[end].name),
      make("span", { class: `effect mark ${it.sign(edge)}` }, `${it.effect(edge)}${unit ? ` ${unit}` : ""}`),
      words ? make("small", {}, words) : null);
  });
  const more = own.length > MOST ? [make("p", { class: "note" }, `And ${it.counted(own.length - MOST, "weaker edge")}: the table below has all.`)] : [];
  return [make("h5", {}, `${heading} ${it.counted(own.length, "edge")}`), make("ul", {}, ...items), ...more];
}

function under(it, node) {
  const { make } = it;
  if (!it.graph.hosts.includes(node)) return [];
  const joined = it.trace.about.joined?.[node.name];
  const shown = it.state.open.has(node.name);
  const words = [];
  if (joined) {
    const share = joined.completeness === null ? "" : `, ${Math.round(100 * joined.completeness)}% of ${it.number(joined.total)}`;
    words.push(`What hangs under it explains ${it.number(joined.explained)} ${joined.unit}${share}.`);
  }
  const button = make("button", { type: "button", onclick: () => it.unfold(node) }, `${shown ? "Fold" : "Unfold"} ${it.counted(it.hung(node), "node")} under it`);
  return [words.length ? make("p", {}, words.join(" ")) : null, make("p", {}, button)].filter(Boolean);
}

return (it) => {
  const { make, node } = it;
  if (!node) {
    return [make("p", { class: "hint" }, "Choose a node to see its paths to the outcome, its effects with their errors, and where they come from. Arrow keys walk from node to node, Enter chooses, Escape lets go. Drag to move; Ctrl and the wheel enlarge.")];
  }
  const facts = Object.entries(node.about).filter(([name]) => name !== "under");
  if (node.value !== null) facts.unshift(["value", it.number(node.value)]);
  const kind = [node.kind, node === it.graph.outcome ? "the outcome" : "", node.under === null ? "" : `under ${node.under}`].filter(Boolean).join(" · ");
  return [
    make("button", { type: "button", class: "close", "aria-label": "Let go", onclick: () => it.choose(null) }, "×"),
    make("h4", {}, node.name),
    kind ? make("p", { class: "soft" }, kind) : "",
    facts.length ? make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, it.spoken(name)), make("dd", {}, it.told(value))])) : "",
    ...under(it, node),
    make("div", { class: "ends" },
      ...[["Goes out by", node.targets, "to"], ["Comes in by", node.sources, "from"]].map((part) => make("div", {}, ...list(it, ...part)))),
  ].filter(Boolean);
};
})();

function traceKey(graph, make) {
  const line = (kind, width, strength) => make("svg", { width: 30, height: 12, viewBox: "0 0 30 12" },
    make("path", { d: "M0 6H30", class: `edge ${kind}`, "stroke-width": width, style: `--strength: ${strength}` }));
  const item = (words, ...lines) => make("span", {}, ...lines, words);
  const known = graph.edges.some((e) => e.error !== null), unknown = graph.edges.some((e) => e.error === null);
  return [
    item("raises", line("raises", 5, 0.9)), item("lowers", line("lowers", 5, 0.9)),
    item("width: size beside the largest into the same column", line("plain", 2, 0.9), line("plain", 8, 0.9)),
    known ? item("pale: little beside its error; full from four errors on", line("plain", 5, 0.25), line("plain", 5, 0.9)) : "",
    unknown ? item("striped: error not known", line("plain unsure", 5, 0.7)) : "",
  ].filter(Boolean);
}
