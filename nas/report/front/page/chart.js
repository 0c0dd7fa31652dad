// The chart: Observable Plot draws it, D3's brush selects a range of costs.
const LINES = 17; // between the labels of budgets
// Of runs: they repeat what colours say.
const SYMBOLS = [Charts.symbolCircle, Charts.symbolSquare, Charts.symbolCross, Charts.symbolWye];
const symbolOf = run => SYMBOLS[run % SYMBOLS.length];
let elements = []; // the points in the order of cost, each with its row

function drawChart() {
  const place = one("#chart"), view = axis(), up = view.up[state.measure], measure = data.measures[state.measure];
  const members = rows.filter(row => isMember(row) && inRange(row.costs[state.cost]) && row.shown[state.measure] !== null);
  const x = row => row.costs[state.cost], y = row => row.shown[state.measure];
  const width = Math.max(280, place.clientWidth), narrow = width < 480;
  const targets = [...new Set(data.runs.flatMap(run => run.targets[state.cost]))].sort((a, b) => a - b);
  const across = state.range ?? view.across.domain;
  const seen = targets.filter(target => target >= across[0] && target <= across[1]);
  const labels = targetLabels(state.range ? seen : targets, across, width);
  const marks = [Charts.ruleX(seen, { stroke: "var(--soft)", strokeDasharray: "5 4" })];
  labels.forEach(({ target, line, label, anchor }) => marks.push(Charts.text([target], {
    x: Math.min(across[1], Math.max(across[0], target)), frameAnchor: "top", dy: -10 - LINES * line, text: () => label, textAnchor: anchor, fill: "var(--ink)",
  })));
  data.runs.forEach((run, place) => marks.push(...surroundings(run, place), ...front(place, members, x, y)));
  marks.push(Charts.tip(members, Charts.pointer({
    x, y, title: describe, fill: "var(--paper)", stroke: "var(--rule)", fontSize: 13, lineHeight: 1.35,
  })));
  const chart = Charts.plot({
    width, height: Math.round(Math.min(540, Math.max(300, width * .66))), marks,
    marginLeft: narrow ? 46 : 56, marginRight: 16, marginBottom: 46,
    marginTop: 40 + LINES * Math.max(0, ...labels.map(({ line }) => line + 1)),
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: narrow ? "12px" : "13px", overflow: "visible" },
    x: { domain: across, grid: true, ticks: narrow ? 5 : 8, label: view.title, labelAnchor: "center", labelArrow: "none", labelOffset: 40 },
    y: {
      domain: state.range ? padded(members.map(y)) ?? up.domain : up.domain, type: up.log ? "log" : "linear", grid: true, ticks: 6,
      tickFormat: up.log ? "~s" : undefined, label: `${measure.title}, ${measure.better} is better`, labelArrow: "none",
    },
  });
  chart.setAttribute("role", "group");
  chart.setAttribute("aria-label", `${measure.title} against ${view.title}`);
  place.className = colour(0);
  place.replaceChildren(chart);
  chart.addEventListener("click", () => pick(chart.value));
  startBrush(chart, members.length > 0);
  startKeyboard(chart);
  drawHalos();
}

// The other architectures of a run: dots, and those whose widths were set by hand.
function surroundings(run, place) {
  const stroke = `var(--c)`, cost = column(state.cost);
  const points = table => table[cost].map((value, k) => [value, table[state.measure][k]])
    .filter(([value, other]) => value !== null && other !== null && inRange(value));
  const open = { stroke, fill: "var(--paper)", strokeWidth: 1.5, clip: true };
  return inColour(place, [
    Charts.dot(points(run.around.scored), { r: 2, fill: stroke, fillOpacity: .35, clip: true }),
    Charts.dot(points(run.around.uniform), { ...open, symbol: "diamond", r: 4.5 }),
    Charts.dot(points(run.around.tapered), { ...open, symbol: "triangle", r: 4.5 }),
  ]);
}

// A run's front: its line, a ring around what is on the front in time, and the points.
function front(place, members, x, y) {
  const own = members.filter(row => row.run === place).sort((a, b) => x(a) - x(b) || y(a) - y(b));
  const on = own.filter(row => row.on.includes(state.cost)), timed = own.filter(row => row.on.includes(axis().clock));
  const points = own.filter(row => !row.exported), special = row => row.chosen.includes(state.cost);
  const named = { x, y, ariaLabel: label, stroke: "var(--c)" };
  return inColour(place, [
    Charts.line(on, { x, y, stroke: "var(--c)", strokeWidth: 1.5, strokeOpacity: state.measure === "rd_loss" ? 1 : .35 }),
    Charts.dot(timed, { x, y, r: 7, stroke: "var(--ink)", strokeWidth: 1.1 }),
    Charts.dot(points.filter(row => !special(row) && row.on.includes(axis().macs)), {
      ...named, r: 4.2, fill: "var(--c)", stroke: "var(--paper)", strokeWidth: 1, symbol: symbolOf(place) }),
    Charts.dot(points.filter(row => !special(row) && !row.on.includes(axis().macs)), {
      ...named, r: 3.8, fill: "var(--paper)", strokeWidth: 1.6, symbol: symbolOf(place) }),
    Charts.dot(points.filter(special), { ...named, r: 6, fill: "var(--paper)", strokeWidth: 3, symbol: symbolOf(place) }),
    Charts.dot(own.filter(row => row.between), {
      ...named, r: 4, fill: "var(--paper)", strokeWidth: 1, symbol: "star" }),
    Charts.dot(own.filter(row => row.exported && !row.between), {
      ...named, r: 9, fill: "var(--c)", stroke: "var(--ink)", strokeWidth: 1.3, symbol: "star" }),
  ]);
}

// Marks whose --c is the colour of a run.
const inColour = (place, marks) => marks.map(mark => {
  const render = mark.render;
  mark.render = function (...given) {
    const drawn = render.apply(this, given);
    drawn?.classList.add(colour(place));
    return drawn;
  };
  return mark;
});

const limit = target => `≤ ${Number(target.toPrecision(4))}${axis().unit === "ms" ? " ms" : ""}`;

// Budgets as labels above the chart, on as many lines as keep them apart.
function targetLabels(targets, [low, high], width) {
  const ends = [];
  return targets.map(target => {
    const share = (target - low) / (high - low), at = Math.min(1, Math.max(0, share)) * width;
    let line = ends.findIndex(end => at - end >= 64);
    if (line < 0) line = ends.length;
    ends[line] = at;
    const label = share > 1 ? limit(target) + " →" : share < 0 ? "← " + limit(target) : limit(target);
    return { target, line, label, anchor: share > .95 ? "end" : share < .05 ? "start" : "middle" };
  });
}

function padded(values) {
  if (!values.length) return null;
  const low = Math.min(...values), high = Math.max(...values), room = (high - low) * .08 || Math.abs(high) * .05 || 1e-3;
  return data.costs[state.cost].up[state.measure].log ? [low * .97, high * 1.03] : [low - room, high + room];
}

function describe(row) {
  const lines = [[row.name, ...row.badges].join(" · "), `${axis().label} ${number(row.costs[state.cost])} ${axis().unit}`];
  for (const [name, { label }] of Object.entries(data.measures)) lines.push(`${label} ${text(name, row[name])}${UNITS[name] ?? ""}`);
  lines.push(`${row.layout}, ${row.stages} ${row.stages === 1 ? "stage" : "stages"}`);
  if (data.runs.length > 1) lines.push(data.runs[row.run].label);
  return lines.join("\n");
}
const label = row => `${row.name}: ${axis().label} ${number(row.costs[state.cost])} ${axis().unit}, `
  + `${data.measures[state.measure].label} ${text(state.measure, row[state.measure])}`;

// Zoom: a drag over the chart, or the two fields.
function startBrush(chart, any) {
  const x = chart.scale("x"), y = chart.scale("y");
  const brush = Charts.brushX().extent([[Math.min(...x.range), Math.min(...y.range)], [Math.max(...x.range), Math.max(...y.range)]])
    .touchable(false) // a finger scrolls the page; the fields zoom there
    .on("end", ({ selection, sourceEvent }) => {
      if (selection && sourceEvent) zoom(selection.map(place => x.invert(place)));
    });
  if (any) Charts.select(chart).insert("g", ":first-child").attr("class", "brush").call(brush);
  chart.addEventListener("dblclick", () => zoom(null));
}
function zoom(range) {
  state.range = range && range[1] > range[0] ? range : null;
  const [low, high] = state.range ?? ["", ""];
  one("#from").value = low === "" ? "" : Number(low.toPrecision(3));
  one("#to").value = high === "" ? "" : Number(high.toPrecision(3));
  drawChart();
  filterTable();
}
function typed() {
  const [low, high] = ["#from", "#to"].map(name => one(name).value), [first, last] = axis().across.domain;
  const range = [low === "" ? Math.min(0, first) : Number(low), high === "" ? last : Number(high)];
  state.range = (low !== "" || high !== "") && range[1] > range[0] ? range : null;
  drawChart();
  filterTable();
}

// The keyboard walks along the points, which are one tab stop.
function startKeyboard(chart) {
  elements = [...chart.querySelectorAll("[aria-label^='#']")].map(point => {
    const row = rows[parseInt(point.getAttribute("aria-label").slice(1)) - 1];
    point.setAttribute("role", "button");
    point.addEventListener("focus", () => pick(row));
    return { point, row };
  });
  elements.sort((a, b) => a.row.costs[state.cost] - b.row.costs[state.cost] || a.row.place - b.row.place);
  elements.forEach(({ point }, place) => {
    point.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -elements.length, End: elements.length }[event.key];
      if (!step) return;
      event.preventDefault();
      elements[Math.min(elements.length - 1, Math.max(0, place + step))].point.focus();
    });
  });
}

// Rings around the picked point and the one it is compared with; the picked one is where Tab arrives.
function drawHalos() {
  const chart = one("#chart svg");
  if (!chart) return;
  chart.querySelectorAll(".halo").forEach(halo => halo.remove());
  const frame = chart.getBoundingClientRect();
  const tab = elements.find(({ row }) => row === state.picked) ?? elements[0];
  elements.forEach(({ point, row }) => {
    point.setAttribute("tabindex", point === tab.point ? 0 : -1);
    if (row !== state.picked && row !== state.other) return;
    const box = point.getBoundingClientRect();
    Charts.select(chart).append("circle").attr("class", row === state.picked ? "halo" : "halo other").attr("r", 12)
      .attr("cx", box.x + box.width / 2 - frame.x).attr("cy", box.y + box.height / 2 - frame.y);
  });
}

function drawLegend() {
  const item = (shapes, words, run = 0) => {
    const made = element("li", { class: colour(run) });
    made.innerHTML = `<svg viewBox="0 0 26 14" aria-hidden="true">${shapes}</svg>`;
    made.append(words);
    return made;
  };
  const filled = "fill='var(--c)'", open = "fill='var(--paper)' stroke='var(--c)'", some = name => data.runs.some(run => run.around[name].rd_loss.length);
  const items = data.runs.map((run, place) => item(`<path d="M0 7H26" stroke="var(--c)" stroke-width="1.5"/><path transform="translate(13 7)" d="${Charts.symbol(symbolOf(place), 55)()}" ${filled}/>`,
    `front, ${run.label}`, place));
  if (rows.some(row => row.on.includes(axis().clock))) {
    items.push(item(`<circle cx="13" cy="7" r="3.5" ${filled}/><circle cx="13" cy="7" r="6" fill="none" stroke="var(--ink)"/>`, "on the front in time, too"));
    items.push(item(`<circle cx="13" cy="7" r="3.5" ${open}/><circle cx="13" cy="7" r="6" fill="none" stroke="var(--ink)"/>`, "on the front in time only"));
  }
  if (rows.some(row => row.chosen.includes(state.cost) && !row.exported)) items.push(item(`<circle cx="13" cy="7" r="4.5" stroke-width="3" ${open}/>`, "answers a budget"));
  const star = "M13 0l1.9 4.9 5.2.3-4 3.3 1.3 5.1-4.4-2.8-4.4 2.8 1.3-5.1-4-3.3 5.2-.3z";
  if (rows.some(row => row.exported)) items.push(item(`<path d="${star}" ${filled}/>`, "exported"));
  if (rows.some(row => row.between)) items.push(item(`<path transform="translate(5.2 2.8) scale(.6)" d="${star}" ${open}/>`, "exported, within a family"));
  if (some("uniform")) items.push(item(`<path d="M13 2l5 5l-5 5l-5-5z" ${open}/>`, "uniform widths"));
  if (some("tapered")) items.push(item(`<path d="M13 2l5.5 9.5h-11z" ${open}/>`, "tapered by hand"));
  if (some("scored")) items.push(item(`<g fill="var(--c)" opacity=".4"><circle cx="6" cy="9" r="2"/><circle cx="13" cy="4" r="2"/><circle cx="20" cy="8" r="2"/></g>`, "others that were scored"));
  if (data.runs.some(run => run.targets[state.cost].length)) items.push(item(`<path d="M0 7H26" stroke="var(--soft)" stroke-dasharray="5 4"/>`, "budget"));
  one("#legend").replaceChildren(...items);
}
