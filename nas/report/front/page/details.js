// The picked architecture, alone or beside another: numbers, command, structure, curve, picture.
const EDGES = {
  g_a: "encoder", h_a: "encoder of the side information", h_s: "decoder of the side information", g_s: "decoder",
  entropy_parameters: "probabilities", context: "context", linear: "linear path",
};
const shades = () => [state.picked, state.other].filter(Boolean);

function drawDetails() {
  const row = state.picked, other = state.other;
  one("#details").className = "card " + colour(row.run);
  one("#picked").replaceChildren(element("span", { class: "dot" }), row.name);
  one("#badges").replaceChildren(...row.badges.map(name => element("span", { class: "badge" }, name)));
  one("#compare").textContent = other ? "Stop comparing" : "Compare with another";
  one("#unseen").textContent = isMember(row) ? "" : `${row.name} is not on the front of this cost, so the chart does not show it.`;
  one("#comparing").textContent = !other ? "" : other === row ? `${other.name} is kept: now pick another point or row.`
    : `Compared with ${other.name}. Pick any other point or row.`;
  const run = data.runs[row.run];
  one("#up").textContent = `Show ${row.name}`;
  one("#export").textContent = `Export ${row.name}`;
  one("#command").textContent = `nas export ${run.folder} --arch ${row.key} --out codec-${row.number}`;
  drawNumbers(row, other === row ? null : other);
  drawStructure();
  drawCurve();
  drawPictures();
}

function drawNumbers(row, other) {
  const cell = (value, scope) => element(scope ? "th" : "td", scope ? { scope } : isNaN(parseFloat(value)) ? { class: "words" } : {}, value);
  const percent = (a, b) => a === null || !b ? "-" : signed(100 * (a / b - 1), Math.abs(a / b - 1) < .1 ? 1 : 0) + "\u00a0%";
  const minus = (digits, unit = "") => (a, b) => a === null || b === null ? "-" : signed(a - b, digits) + unit;
  const line = (name, get, format, change) => {
    const cells = [cell(name, "row"), cell(format(get(row)))];
    if (other) cells.push(cell(format(get(other))), cell(change(get(row), get(other))));
    return element("tr", {}, ...cells);
  };
  const lines = Object.entries(data.costs).map(([name, cost]) => line(cost.label + (other ? "" : `, ${cost.unit}`), each => each.costs[name], number, percent));
  const same = (a, b) => a === b ? "same" : "other";
  if (data.runs.length > 1) lines.unshift(line("run", each => data.runs[each.run].label, String, same));
  if (!other) lines.push(line("layout", each => each.layout, String, same)); // beside another, the structure says it
  lines.push(line("stages", each => each.stages, value => text("stages", value), minus(0)));
  lines.push(line("parameters", each => each.params, value => other && value >= 1e6 ? (value / 1e6).toFixed(2) + "\u00a0M" : text("params", value), percent));
  lines.push(line("rate, bit/px", each => each.bpp, value => text("bpp", value), percent));
  lines.push(line("PSNR, dB", each => each.psnr, value => text("psnr", value), minus(2)));
  lines.push(line("loss", each => each.rd_loss, value => text("rd_loss", value), percent));
  if (data.measures.bd_rate) lines.push(line("BD-rate, %", each => each.bd_rate, value => text("bd_rate", value), minus(1)));
  const head = element("tr", {}, cell("", "col"), cell(row.name, "col"), ...(other ? [cell(other.name, "col"), cell("change", "col")] : []));
  one("#numbers").replaceChildren(...(other ? [element("thead", {}, head)] : []), element("tbody", {}, ...lines));
}
function signed(value, digits) {
  const short = Math.abs(value).toFixed(digits);
  return Number(short) ? (value < 0 ? "−" : "+") + short : short;
}

// Bars of every width relative to the widest, by edge of the network.
function drawStructure() {
  const row = state.picked, { slots, known } = data.runs[row.run], blocks = new Map();
  const alike = each => JSON.stringify(data.runs[each.run].slots) === JSON.stringify(slots);
  const other = state.other && state.other !== row && alike(state.other) ? state.other : null;
  slots.forEach(([slot, edge, widest], place) => {
    const base = Object.keys(EDGES).find(name => edge === name || edge.startsWith(name + "_"));
    if (!blocks.has(edge)) {
      blocks.set(edge, element("div", {}, element("h3", {}, edge, ...(base ? [element("small", {}, EDGES[base])] : []))));
    }
    const bars = element("div", { class: "bars" }, ...[row, other].filter(Boolean).map((each, k) => {
      const bar = element("i", { style: `width: ${100 * each.widths[place] / Math.max(1, widest)}%` });
      return element("div", k ? { class: "other" } : {}, bar);
    }));
    const widths = [row, other].filter(Boolean).map(each => each.widths[place]);
    const short = slot.startsWith(edge + ".") ? slot.slice(edge.length + 1) : "";
    blocks.get(edge).append(element("div", { class: "slot", title: `${slot}: ${widths.join(" and ")} of ${widest}` },
      element("span", {}, short), bars, element("span", {}, `${[...new Set(widths)].join(" | ")} of ${widest}`)));
  });
  const stages = each => `${each.layout}, ${each.stages} ${each.stages === 1 ? "stage" : "stages"}`;
  const words = `Bars: each width relative to the widest ${known ? "candidate of its slot" : "that was scored"}. `
    + `Order of decoding: ${[...new Set([row, other].filter(Boolean).map(stages))].join(" | ")}.`;
  const place = one("#structure");
  place.className = colour(row.run);
  place.replaceChildren(element("p", { class: "soft", style: "grid-column: 1 / -1" },
    (other ? `${row.name} solid, ${other.name} hatched. ` : "") + words), ...blocks.values());
}

function drawCurve() {
  one("#curve-part").hidden = !rows.some(row => row.curve.length > 1);
  const [shown, without] = [true, false].map(known => [...new Set(shades())].filter(row => row.curve.length > 1 === known));
  one("#no-curve").textContent = without.length ? `The run has no scores at other rates of ${without.map(row => row.name).join(" and ")}.` : "";
  [one("#curve"), one("#anchors")].forEach(part => part.replaceChildren());
  if (!shown.length) return;
  const points = row => row.curve.map(([, bpp, psnr]) => [bpp, psnr]);
  const style = row => row === state.picked ? { stroke: "var(--c)" } : { stroke: "var(--ink)", strokeDasharray: "4 3" };
  const place = one("#curve"), width = Math.max(260, place.clientWidth || 480);
  place.className = colour(state.picked.run);
  const chart = Charts.plot({
    width, height: Math.round(Math.min(320, width * .62)), marginLeft: 44, marginBottom: 42, marginTop: 28, inset: 8,
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "13px" },
    x: { grid: true, ticks: 6, label: "Rate (bits per pixel)", labelAnchor: "center", labelArrow: "none", labelOffset: 36 },
    y: { grid: true, ticks: 5, label: "PSNR (dB), higher is better", labelArrow: "none", nice: true },
    marks: shown.toReversed().flatMap(row => [
      Charts.line(points(row), { ...style(row), strokeWidth: 1.8 }),
      Charts.dot(points(row), { ...style(row), strokeDasharray: null, fill: "var(--paper)", r: 4, strokeWidth: 2, symbol: row === state.picked ? "circle" : "square" }),
    ]),
  });
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `PSNR against rate of ${shown.map(row => row.name).join(" and ")}`);
  place.replaceChildren(chart);
  const cell = (tag, value) => element(tag, tag === "th" ? { scope: "col" } : {}, value);
  const head = shown.flatMap(row => [cell("th", `${row.name} bit/px`), cell("th", `${row.name} dB`)]);
  const lines = shown[0].curve.map(([lmbda], k) => element("tr", {}, cell("td", String(lmbda)),
    ...shown.flatMap(row => [cell("td", text("bpp", row.curve[k]?.[1] ?? null)), cell("td", text("psnr", row.curve[k]?.[2] ?? null))])));
  one("#anchors").replaceChildren(element("thead", {}, element("tr", {}, cell("th", "λ"), ...head)), element("tbody", {}, ...lines));
}

function drawPictures() {
  const found = data.pictures[state.picked.run];
  one("#picture-part").hidden = !found;
  if (!found) return;
  const equal = found.most_bytes ? `Every file has at most ${found.most_bytes.toLocaleString("en")} bytes, so that pictures can be compared. `
    : "These codecs have one rate each, so the sizes of their files differ. ";
  one("#picture-note").textContent = `A detail of ${found.photo}, a photo that the search did not see, coded by itself. ${equal}`
    + "The page shows the decoded pixels as WebP of high quality.";
  const figure = (source, words) => element("figure", {}, element("img", {
    src: source, width: found.width, height: found.height, alt: words }), element("figcaption", {}, words));
  const size = ({ bytes, psnr }) => `${bytes.toLocaleString("en")} bytes, ${psnr.toFixed(2)} dB`;
  const pictures = [figure(found.original, "original")];
  for (const row of new Set(shades())) {
    const made = data.pictures[row.run]?.decoded[row.id];
    pictures.push(made ? figure(made.image, `${row.name}: ${size(made)}`) : missing(row, found));
  }
  if (found.jpeg) pictures.push(figure(found.jpeg.image, `JPEG: ${size(found.jpeg)}`));
  one("#pictures").replaceChildren(...pictures);
}
function missing(row, found) {
  const others = Object.keys(found.decoded).map(id => {
    const button = element("button", { type: "button" }, byId.get(id).name);
    button.addEventListener("click", () => pick(byId.get(id)));
    return button;
  });
  return element("div", { class: "missing" }, element("p", {}, `No picture was made with ${row.name}. Pictures exist for:`), ...others);
}
