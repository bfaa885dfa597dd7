"use strict";
// A trace's graph: which of it is drawn, and where everything stands. Nothing here touches the page.
const traceLayout = (() => {
const MOST_NODES = 60, MOST_ROWS = 24;
// More ends of edges in a zone are not put in order: it takes seconds, and nobody sees it.
const MOST_ENDS = 1500;
const ROW = 26, BETWEEN = 9, LANE = 5, APART = 64, HEADING = 30, WIDEST = 9, NARROWEST = 1.2;
// Their order is that of the sequence, and is kept.
const IN_SEQUENCE = ["base", "token"];
const sum = (values) => values.reduce((a, b) => a + b, 0);
const grouped = (items, key) => {
  const found = new Map();
  for (const item of items) {
    const own = key(item);
    found.has(own) ? found.get(own).push(item) : found.set(own, [item]);
  }
  return found;
};

function read(told) {
  const nodes = told.nodes.map((node, index) => ({
    ...node, index, under: node.about.under ?? null, sources: [], targets: [],
  }));
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const edges = told.edges.map((edge, index) => ({
    ...edge, index, from: byName.get(edge.source), to: byName.get(edge.target),
    under: edge.evidence.under ?? null,
  }));
  for (const edge of edges) { edge.from.targets.push(edge); edge.to.sources.push(edge); }
  for (const own of grouped(edges, (e) => `${e.to.layer} ${e.under}`).values()) {
    const most = Math.max(...own.map((e) => Math.abs(e.effect)));
    for (const edge of own) edge.size = most ? Math.abs(edge.effect) / most : 0;
  }
  const hosts = [...new Set(edges.map((e) => e.under).filter((name) => name !== null))]
    .map((name) => byName.get(name));
  return { nodes, edges, byName, hosts, outcome: byName.get(told.outcome) };
}

// The edges of a state { strongest, sign, open, kept }, and the nodes that are on a path of them.
function chosen(graph, state) {
  const able = graph.edges.filter((e) =>
    (e.under === null || state.open.has(e.under)) && (!state.sign || Math.sign(e.effect) === state.sign));
  const edges = new Set();
  for (const own of grouped(able, (e) => `${e.to.index} ${e.under}`).values()) {
    own.sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect) || a.index - b.index);
    for (const edge of own.slice(0, state.strongest)) edges.add(edge);
  }
  for (let node = state.kept, n = 0; node && node !== graph.outcome && n < graph.nodes.length; n++) {
    const way = node.targets.filter((e) => able.includes(e));
    if (!way.length) break;
    const best = way.reduce((a, b) => (Math.abs(b.effect) > Math.abs(a.effect) ? b : a));
    edges.add(best);
    node = best.to;
  }
  const into = grouped(edges, (e) => e.to);
  const nodes = new Set([graph.outcome]), waiting = [graph.outcome];
  while (waiting.length) {
    for (const { from } of into.get(waiting.pop()) ?? []) {
      if (!nodes.has(from)) { nodes.add(from); waiting.push(from); }
    }
  }
  return {
    nodes: graph.nodes.filter((n) => nodes.has(n)),
    edges: graph.edges.filter((e) => edges.has(e) && nodes.has(e.to)),
  };
}

// Steps of "strongest into each node"; the last is all of them.
function steps(graph) {
  const most = Math.max(1, ...[...grouped(graph.edges, (e) => `${e.to.index} ${e.under}`).values()].map((own) => own.length));
  const found = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000];
  return [...found.filter((n) => n < most), most];
}

// The most that leaves a drawing readable.
function readable(graph, state) {
  let best = 1;
  for (const strongest of steps(graph)) {
    const { nodes } = chosen(graph, { ...state, strongest });
    const rows = sum([...grouped(nodes, (n) => n.under).values()].map((zone) =>
      Math.max(...[...grouped(zone, (n) => n.layer).values()].map((column) => column.length))));
    if (nodes.length > MOST_NODES || rows > MOST_ROWS) break;
    best = strongest;
  }
  return best;
}

// Long edges run through a lane in each column between; edges of one zone to one node share theirs.
// What hangs under a node leads to a stand-in of that node, in a zone of its own.
function items(drawn, columns) {
  const zones = new Map();
  const zone = (name) => zones.get(name) ?? zones.set(name, columns.map(() => [])).get(name);
  const at = new Map(drawn.nodes.map((n) => [n, { node: n, column: columns.indexOf(n.layer), high: ROW, out: [], into: [] }]));
  for (const item of at.values()) zone(item.node.under)[item.column].push(item);
  const hosts = new Map();
  for (const { to, under } of drawn.edges) {
    if (under === null || to.under === under || hosts.has(to)) continue;
    hosts.set(to, { node: to, under, stands: true, column: columns.indexOf(to.layer), high: ROW, out: [], into: [] });
    zone(under)[hosts.get(to).column].push(hosts.get(to));
  }
  const lanes = new Map();
  const links = drawn.edges.map((edge) => {
    const a = at.get(edge.from), b = edge.under === edge.to.under ? at.get(edge.to) : hosts.get(edge.to);
    const link = { edge, width: Math.max(NARROWEST, WIDEST * edge.size), stops: [a] };
    for (let column = a.column + 1; column < b.column; column++) {
      const key = `${edge.from.under} ${edge.to.index} ${column}`;
      if (!lanes.has(key)) {
        lanes.set(key, { lane: true, column, high: LANE, links: [], out: [], into: [] });
        zone(edge.from.under)[column].push(lanes.get(key));
      }
      const lane = lanes.get(key);
      lane.links.push(link);
      lane.high = Math.max(LANE, sum(lane.links.map((l) => l.width)));
      link.stops.push(lane);
    }
    link.stops.push(b);
    for (let k = 1; k < link.stops.length; k++) {
      link.stops[k - 1].out.push([link.stops[k], edge.size]);
      link.stops[k].into.push([link.stops[k - 1], edge.size]);
    }
    a.leaving = (a.leaving ?? 0) + link.width;
    b.entering = (b.entering ?? 0) + link.width;
    return link;
  });
  const boxes = [...at.values(), ...hosts.values()];
  for (const box of boxes) box.high = Math.max(ROW, (box.leaving ?? 0) + 8, (box.entering ?? 0) + 8);
  return { boxes, at, hosts, lanes: [...lanes.values()], zones, links };
}

const middle = (ends, place) => {
  const weight = sum(ends.map(([, size]) => size + 0.02));
  return sum(ends.map(([item, size]) => place(item) * (size + 0.02))) / weight;
};

function crossings(column) {
  const ends = column.flatMap((item) => item.out.map(([to]) => [item.order, to.order ?? 0, to.column]));
  let n = 0;
  for (let i = 0; i < ends.length; i++) {
    for (let j = i + 1; j < ends.length; j++) {
      if (ends[i][2] === ends[j][2] && (ends[i][0] - ends[j][0]) * (ends[i][1] - ends[j][1]) < 0) n++;
    }
  }
  return n;
}

// Few crossings, by the mean place of neighbours (Sugiyama, Tagawa and Toda 1981).
function order(columns) {
  const effect = (item) => sum(item.node.targets.map((e) => e.effect));
  const fixed = columns.map((column) => column.some((i) => i.node && IN_SEQUENCE.includes(i.node.kind)));
  const number = (column) => column.forEach((item, k) => { item.order = column.length > 1 ? k / (column.length - 1) : 0.5; });
  columns.forEach((column, k) => {
    if (!fixed[k]) column.sort((a, b) => (a.lane || b.lane ? !!a.lane - !!b.lane : effect(b) - effect(a)));
    number(column);
  });
  let best = columns.map((column) => [...column]), fewest = Infinity;
  const sweeps = sum(columns.flat().map((item) => item.out.length)) > MOST_ENDS ? 0 : 6;
  for (let sweep = 0; sweep < sweeps; sweep++) {
    const back = sweep % 2 === 0;
    for (const k of back ? [...columns.keys()].reverse() : columns.keys()) {
      const column = columns[k];
      const aim = new Map(column.map((item, i) => {
        const ends = (back ? item.out : item.into).filter(([end]) => end.order !== undefined);
        // A row of a sequence stays where it is, and lanes go around it.
        if (fixed[k] && item.node) return [item, item.order];
        return [item, ends.length ? middle(ends, (end) => end.order) : item.order ?? i];
      }));
      column.sort((a, b) => aim.get(a) - aim.get(b));
      number(column);
    }
    const now = sum(columns.map(crossings));
    if (now < fewest) { fewest = now; best = columns.map((column) => [...column]); }
  }
  columns.forEach((column, k) => { columns[k] = best[k]; number(best[k]); });
}

// Places nearest to those wanted that keep their order and distance (pool adjacent violators).
function spread(column, wanted) {
  let offset = 0;
  const pools = [];
  column.forEach((item, k) => {
    if (k) offset += (column[k - 1].high + item.high) / 2 + BETWEEN;
    item.offset = offset;
    pools.push({ value: wanted[k] - offset, n: 1 });
    while (pools.length > 1 && pools.at(-2).value > pools.at(-1).value) {
      const last = pools.pop(), before = pools.at(-1);
      before.value = (before.value * before.n + last.value * last.n) / (before.n + last.n);
      before.n += last.n;
    }
  });
  let k = 0;
  for (const { value, n } of pools) for (let i = 0; i < n; i++, k++) column[k].y = value + column[k].offset;
}

function heights(columns) {
  for (const column of columns) {
    const high = sum(column.map((item) => item.high + BETWEEN)) - BETWEEN;
    let y = -high / 2;
    for (const item of column) { item.y = y + item.high / 2; y += item.high + BETWEEN; }
  }
  const inside = new Set(columns.flat());
  for (let pass = 0; pass < 4; pass++) {
    const back = pass % 2 === 0;
    for (const column of back ? [...columns].reverse() : columns) {
      spread(column, column.map((item) => {
        const ends = (back ? item.out : item.into).filter(([end]) => inside.has(end));
        return ends.length ? middle(ends, (end) => end.y) : item.y;
      }));
    }
  }
  const every = [...inside];
  const top = Math.min(...every.map((item) => item.y - item.high / 2));
  for (const item of every) item.y -= top;
  return Math.max(...every.map((item) => item.y + item.high / 2));
}

// Where edges meet a box or a lane: side by side, in the order of their other ends.
function ports(links, lanes) {
  const beside = (item, own, other, put) => {
    own.sort((a, b) => other(a) - other(b) || a.edge.index - b.edge.index);
    let y = item.y - sum(own.map((l) => l.width)) / 2;
    for (const link of own) { put(link, y + link.width / 2); y += link.width; }
  };
  for (const link of links) link.ys = link.stops.map((stop) => stop.y);
  for (const [box, own] of grouped(links, (l) => l.stops[0])) {
    beside(box, own, (l) => l.stops[1].y, (link, y) => { link.ys[0] = y; });
  }
  for (const lane of [...lanes].sort((a, b) => a.column - b.column)) {
    const before = (l) => l.stops.indexOf(lane) - 1;
    beside(lane, lane.links, (l) => l.ys[before(l)], (link, y) => { link.ys[before(link) + 1] = y; });
  }
  for (const [box, own] of grouped(links, (l) => l.stops.at(-1))) {
    beside(box, own, (l) => l.ys.at(-2), (link, y) => { link.ys[link.ys.length - 1] = y; });
  }
}

function path(link) {
  const [first, last] = [link.stops[0], link.stops.at(-1)];
  const parts = [];
  let x = first.x + first.wideBox, y = link.ys[0];
  parts.push(`M${x.toFixed(1)} ${y.toFixed(1)}`);
  const bend = (to, high) => {
    const half = (x + to) / 2;
    parts.push(`C${half.toFixed(1)} ${y.toFixed(1)} ${half.toFixed(1)} ${high.toFixed(1)} ${to.toFixed(1)} ${high.toFixed(1)}`);
    [x, y] = [to, high];
  };
  link.stops.slice(1, -1).forEach((stop, k) => {
    bend(stop.x, link.ys[k + 1]);
    x = stop.x + stop.wideBox;
    parts.push(`H${x.toFixed(1)}`);
  });
  bend(last.x, link.ys.at(-1));
  return parts.join("");
}

// Boxes with x, y and sizes, paths of edges, zones with their headings; `wide` measures a node, and
// `gap` says how far apart columns stand from their whole width and number.
function layout(drawn, wide, gap) {
  const layers = [...new Set(drawn.nodes.map((n) => n.layer))].sort((a, b) => a - b);
  const { boxes, at, hosts, lanes, zones, links } = items(drawn, layers);
  const widths = layers.map((layer) => Math.max(...drawn.nodes.filter((n) => n.layer === layer).map(wide)));
  const xs = [], apart = gap(sum(widths), layers.length);
  layers.forEach((_, k) => xs.push(k ? xs[k - 1] + widths[k - 1] + apart : 0));
  const placed = [];
  let top = 0;
  // What hangs under a node stands below the trace's own nodes, in the order of their hosts.
  const names = [...zones.keys()].sort((a, b) => (a !== null) - (b !== null));
  for (const name of names) {
    const columns = zones.get(name);
    order(columns);
    const high = heights(columns);
    columns.forEach((column, k) => {
      const own = Math.max(0, ...column.filter((i) => i.node).map((i) => wide(i.node)));
      for (const item of column) {
        item.y += top + HEADING;
        item.x = xs[k];
        item.wideBox = item.lane ? widths[k] : own;
      }
    });
    const held = columns.flatMap((column, k) => (column.some((i) => i.node) ? [k] : []));
    placed.push({
      under: name, top, high: high + HEADING, left: xs[held[0]],
      right: xs[held.at(-1)] + widths[held.at(-1)],
      columns: held.map((k) => ({
        layer: layers[k], x: xs[k], wide: widths[k], nodes: columns[k].filter((i) => i.node && !i.stands).map((i) => i.node),
      })),
    });
    top += high + HEADING + APART;
  }
  ports(links, lanes);
  // From each stand-in up to its node, along the right side.
  const ties = [...hosts.values()].map((box, k) => {
    const own = at.get(box.node), out = xs[box.column] + widths[box.column] + 10 + 4 * (k % 4);
    return { node: box.node, d: `M${box.x + box.wideBox} ${box.y}H${out}V${own.y + own.high / 2 - 5}H${own.x + own.wideBox}` };
  });
  return {
    boxes, ties, zones: placed,
    curves: links.map((link) => ({ edge: link.edge, width: link.width, d: path(link) })),
    width: xs.at(-1) + widths.at(-1), height: top - APART,
  };
}
return { read, chosen, steps, readable, layout };
})();
