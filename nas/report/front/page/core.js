// What the parts of the page share: its data, what is chosen, numbers as text.
const one = query => document.querySelector(query), all = query => [...document.querySelectorAll(query)];
const data = JSON.parse(one("#data").textContent);
const rows = data.rows.map((row, place) => {
  const line = document.getElementById(row.id), key = line.querySelector("code").textContent;
  const parts = key.split("+").map(part => part.split("=")[1]), layout = parts.pop();
  return { ...row, place, number: place + 1, name: "#" + (place + 1), line, key, layout, widths: parts.join("-").split("-").map(Number) };
});
const byId = new Map(rows.map(row => [row.id, row]));
const state = { cost: data.scope, measure: "rd_loss", range: null, picked: null, other: null };

const axis = () => data.costs[state.cost];
const column = cost => cost + (data.costs[cost].unit === "ms" ? "_ms" : "_kmac_px"); // of a run's other architectures
const colour = run => "run-" + run % 7;
const inRange = value => !state.range || (value >= state.range[0] && value <= state.range[1]);
// What a cost shows as points: its fronts in MACs and in time, and what was exported or chosen by a budget.
const isMember = row => row.costs[state.cost] !== null && (row.exported
  || [axis().macs, axis().clock].some(cost => row.on.includes(cost) || row.chosen.includes(cost)));

function number(value) { // three significant digits
  if (value === null) return "-";
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en");
  return value ? value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))) : "0";
}
const FORMATS = {
  bpp: value => value.toFixed(4), psnr: value => value.toFixed(2), rd_loss: value => value.toFixed(4),
  bd_rate: value => signed(value, 1), stages: value => value.toLocaleString("en"),
  params: value => value.toLocaleString("en"),
};
const UNITS = { bpp: " bit/px", psnr: " dB", bd_rate: " %" };
const text = (name, value) => value === null ? "-" : FORMATS[name](value);

// Elements, with text as text: names of runs and photos may hold anything.
function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

function pick(row) {
  if (!row || row === state.picked) return;
  state.picked = row;
  all("#front .now").forEach(line => line.classList.remove("now"));
  row.line.classList.add("now");
  drawHalos();
  drawDetails();
}
