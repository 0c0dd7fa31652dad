// The table: widths as bars, sorting, filtering, downloading; then everything starts.
const BAR = 6, GAP = 2, HIGH = 24;
function strip(row) {
  const { slots } = data.runs[row.run];
  let x = 0, last = "", rooms = "", bars = "";
  slots.forEach(([, edge, widest], place) => {
    x += last && edge !== last ? BAR : 0;
    const full = Math.max(1, HIGH * row.widths[place] / Math.max(1, widest)).toFixed(1);
    rooms += `M${x} 0h${BAR}v${HIGH}h-${BAR}z`;
    bars += `M${x} ${HIGH}h${BAR}v-${full}h-${BAR}z`;
    [x, last] = [x + BAR + GAP, edge];
  });
  const width = x - GAP;
  return `<svg class="strip" viewBox="0 0 ${width} ${HIGH}" width="${width}" height="${HIGH}" aria-hidden="true"><path class="room" d="${rooms}"/><path d="${bars}"/></svg>`;
}

function filterTable() {
  const words = one("#words").value.toLowerCase().split(/\s+/).filter(Boolean), only = one("#only").checked;
  let shown = 0;
  for (const row of rows) {
    const told = `${row.name} ${row.key} ${row.badges.join(" ")} ${data.runs[row.run].label}`.toLowerCase();
    const kept = words.every(word => told.includes(word)) && inRange(row.costs[state.cost] ?? NaN)
      && (!only || row.on.includes(state.cost) || row.exported);
    row.line.hidden = !kept;
    shown += kept;
  }
  one("#count").textContent = `${shown} of ${rows.length} rows` + (state.range ? ", within the range of cost" : "");
  one("#download").textContent = shown === rows.length ? "Download the table as CSV" : `Download the ${shown} rows shown as CSV`;
}

const value = (row, field) => {
  const [name, cost] = field.split(" ");
  return name === "cost" ? row.costs[cost] : row[name];
};
function sortTable(button) {
  const head = button.closest("th"), rising = head.getAttribute("aria-sort") !== "ascending", field = button.dataset.sort;
  all("#front thead [aria-sort]").forEach(other => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const order = (a, b) => {
    const [left, right] = [value(a, field), value(b, field)];
    if (left === null || right === null) return (left === null) - (right === null); // unknown ones come last
    return (typeof left === "string" ? left.localeCompare(right) : left - right) * (rising ? 1 : -1);
  };
  one("#front tbody").append(...rows.toSorted(order).map(row => row.line));
}

const whole = one("#download").href;
function download() { // the rows shown, in the order shown
  const [head, ...lines] = decodeURIComponent(whole.slice(whole.indexOf(",") + 1)).trimEnd().split("\n");
  const shown = all("#front tbody tr").filter(line => !line.hidden).map(line => lines[byId.get(line.id).place]);
  one("#download").href = "data:text/csv;charset=utf-8," + encodeURIComponent([head, ...shown, ""].join("\n"));
}

async function copy(words) { // from a file, some browsers allow the old way only
  try { await navigator.clipboard.writeText(words); return true; } catch (error) { /* the old way, then */ }
  const box = element("textarea");
  box.value = words;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  return done;
}

function show() { // another cost: what is in view, and what is picked where nothing is
  one("#unit").textContent = axis().unit;
  one("#gains").replaceChildren(...axis().gains.map(words => element("span", {}, words)));
  drawLegend();
  zoom(null);
  if (state.picked) drawDetails();
  const members = rows.filter(isMember);
  if (!state.picked) {
    pick(members.find(row => row.exported) ?? members.find(row => row.chosen.length) ?? members[Math.floor(members.length / 2)] ?? rows[0]);
  }
}

document.documentElement.classList.remove("no-script");
rows.forEach(row => { row.line.querySelector("td.scripted").innerHTML = strip(row); });
for (const [name, then] of [["cost", show], ["measure", drawChart]]) {
  all(`[name=${name}]`).forEach(input => input.addEventListener("change", () => {
    state[name] = one(`[name=${name}]:checked`).value;
    then();
  }));
}
["#from", "#to"].forEach(name => one(name).addEventListener("change", typed));
one("#everything").addEventListener("click", () => zoom(null));
one("#words").addEventListener("input", filterTable);
one("#only").addEventListener("change", filterTable);
one("#download").addEventListener("click", download);
all("[data-sort]").forEach(button => button.addEventListener("click", () => sortTable(button)));
one("#front tbody").addEventListener("click", event => pick(byId.get(event.target.closest("tr").id)));
all("#final ~ * a[href^='#a']").forEach(link => link.addEventListener("click", () => pick(byId.get(link.hash.slice(1)))));
one("#compare").addEventListener("click", () => {
  state.other = state.other ? null : state.picked;
  drawHalos();
  drawDetails();
});
document.addEventListener("click", async event => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const before = button.dataset.words ??= button.textContent;
  button.textContent = await copy(document.getElementById(button.dataset.copy).textContent) ? "Copied" : "Select it by hand";
  setTimeout(() => { button.textContent = before; }, 1500);
});
// Below the chart, a button leads back to what was picked.
new IntersectionObserver(([{ isIntersecting, boundingClientRect }]) => {
  one("#up").hidden = isIntersecting || boundingClientRect.top > 0;
}).observe(one("#details"));
one("#up").addEventListener("click", () => {
  one("#details").scrollIntoView({ block: "center" });
  one("#compare").focus({ preventScroll: true });
});
show();
let wide = one("#chart").clientWidth;
new ResizeObserver(() => {
  if (one("#chart").clientWidth === wide) return;
  wide = one("#chart").clientWidth;
  drawChart();
  drawCurve();
}).observe(one("#chart"));
