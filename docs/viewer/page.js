// The page: what is chosen, what is shown. Decoding is the worker's.

const $ = (id) => document.getElementById(id);
const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const EXAMPLE = { codec: "example/", file: "example/astronaut.nic" };
const KEPT = 2 ** 28; // bytes of pictures at most
const QUICK = 1000; // milliseconds: decoders that take less run before they are asked for

let description = null;
let bytes = null; // of the file
let file = null; // what the worker said of it: {id, width, height, layout, ...}
let request = 0; // the last file that was asked for
let codecs = 0; // likewise
let pictures = new Map(); // by decoder: {image, milliseconds}

const known = (value) => value !== undefined && !Number.isNaN(value);
const number = (value) => (value < 1000 ? value.toPrecision(3) : Math.round(value).toLocaleString("en"));
const kmac = (value) => (known(value) ? `${number(value)} kMAC/px` : "–");
const milliseconds = (value) => (value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value).toLocaleString("en")} ms`);
const chosen = () => Number($("slider").value);

// What is asked of the worker

function openCodec(source) {
  codecs += 1;
  request += 1; // what is still under way is of the other codec
  description = null;
  forget();
  tell("Loading the codec.");
  worker.postMessage({ kind: "codec", id: codecs, source });
}

function openFile(content) {
  bytes = content;
  if (description) decode(); // else once the codec is there
}

function decode() {
  request += 1;
  forget();
  tell("Decoding the latents.");
  busy(0);
  worker.postMessage({ kind: "file", id: request, bytes });
}

function ask(decoder) {
  worker.postMessage({ kind: "decoder", id: request, decoder });
}

/** Show the chosen decoder's picture, or ask for it; and the cheapest one's, where they are compared. */
function show() {
  if (!description) return;
  figures();
  if (!file) return;
  const decoder = chosen();
  draw($("picture"), decoder);
  const comparing = $("compare").checked;
  if (comparing) draw($("other"), 0);
  for (const id of ["other", "seam", "split", "tag-other", "tag-picture"]) $(id).hidden = !(comparing && pictures.has(0));
  $("tag-other").textContent = kmac(costOf(0));
  $("tag-picture").textContent = kmac(costOf(decoder));
  const missing = [decoder, ...(comparing ? [0] : [])].find((each) => !pictures.has(each));
  if (missing !== undefined) {
    tell(`Running decoder ${missing + 1} of ${description.decoders.length}.`);
    busy(null);
    ask(missing);
  } else {
    tell(`Decoded: ${milliseconds(file.milliseconds)} for the latents, ${milliseconds(pictures.get(decoder).milliseconds)} for the picture.`);
    busy(false);
    ahead(decoder);
  }
}

/** Run another decoder before it is asked for, and at last again what ran on cold code, to know its time. */
function ahead(decoder) {
  const { image, milliseconds: took } = pictures.get(decoder);
  const count = description.decoders.length;
  if (took > QUICK || count * image.data.length > KEPT) return;
  const others = Array.from({ length: count }, (_, step) => (decoder + step) % count);
  const next = others.find((each) => !pictures.has(each)) ?? others.find((each) => pictures.get(each).cold);
  if (next !== undefined) ask(next);
}

// What the worker says

const ANSWERS = {
  codec(answer) {
    if (answer.id !== codecs) return;
    description = answer.description;
    $("threads").textContent = answer.threads === 1 ? "one thread" : `${answer.threads} threads`;
    const count = description.decoders.length;
    const slider = $("slider");
    [slider.max, slider.value] = [count - 1, count - 1];
    slider.disabled = count === 1;
    $("compare").disabled = count === 1;
    if (count === 1) $("compare").checked = false;
    document.documentElement.style.setProperty("--count", count);
    bars();
    figures();
    if (bytes) decode();
    else tell("Drop a .nic file that this codec made.");
  },
  progress({ id, share }) {
    if (id === request) busy(share);
  },
  latents(answer) {
    if (answer.id !== request) return;
    file = answer;
    for (const canvas of [$("picture"), $("other")]) [canvas.width, canvas.height] = [file.width, file.height];
    $("frame").style.setProperty("--ratio", file.width / file.height);
    bars();
    show();
  },
  picture({ id, decoder, pixels, milliseconds: took, cold }) {
    if (id !== request) return;
    if ((pictures.size + 1) * pixels.length > KEPT) pictures = new Map();
    pictures.set(decoder, { image: new ImageData(pixels, file.width, file.height), milliseconds: took, cold });
    $("bars").children[decoder].querySelector(".took").textContent = milliseconds(took);
    show();
  },
  problem({ of, id, text }) {
    if (id === (of === "codec" ? codecs : request)) complain(text);
  },
};
worker.addEventListener("message", ({ data }) => ANSWERS[data.kind](data));
worker.addEventListener("error", () => complain("The decoder did not start: run npm install in the page's folder."));

// What is shown

function forget() {
  [file, pictures] = [null, new Map()];
  $("problem").textContent = "";
  $("frame").hidden = true;
  for (const took of document.querySelectorAll("#bars .took")) took.textContent = "";
  figures();
}

function draw(canvas, decoder) {
  const found = pictures.get(decoder);
  if (!found) return;
  canvas.getContext("2d").putImageData(found.image, 0, 0);
  canvas.dataset.decoder = decoder;
  $("frame").hidden = false;
}

/** kMAC/px of all that decoding runs, in the file's layout; not a number where the codec's folder does not say. */
function costOf(decoder) {
  const [base] = description.layouts;
  const layout = file?.layout ?? base;
  const more = layout.name === base.name ? 0 : layout.kmac_px?.decoder - base.kmac_px?.decoder;
  return description.decoders[decoder].kmac_px?.decoder + more;
}

function bars() {
  const costs = description.decoders.map((_, decoder) => costOf(decoder));
  const most = Math.max(...costs.filter(known));
  $("bars").replaceChildren(...description.decoders.map(({ g_s_kmac_px: own }, decoder) => {
    const all = costs[decoder];
    const row = document.createElement("li");
    const bar = document.createElement("span");
    bar.className = "bar";
    bar.style.setProperty("--height", known(all) ? `${(100 * all) / most}%` : "0");
    bar.style.setProperty("--path", known(own) ? `${(100 * (all - own)) / all}%` : "0");
    bar.append(document.createElement("i"), document.createElement("i"));
    const cost = document.createElement("span");
    cost.textContent = known(all) ? number(all) : "–";
    const took = document.createElement("span");
    took.className = "took";
    row.append(bar, cost, took);
    row.addEventListener("click", () => {
      $("slider").value = decoder;
      show();
    });
    return row;
  }));
}

function figures() {
  const set = (id, text) => {
    $(id).textContent = text ?? "–";
  };
  set("size", file && `${file.width}x${file.height}${file.grey ? ", grey" : ""}`);
  set("bytes", file && `${file.bytes.toLocaleString("en")} bytes`);
  set("bpp", file && `${((8 * file.bytes) / (file.width * file.height)).toFixed(3)} bit/px`);
  set("layout", file?.layout.name);
  set("stages", file?.stages.toLocaleString("en"));
  set("entropy", file && milliseconds(file.milliseconds));
  $("family").textContent = description ? description.family : "No codec yet";
  if (!description) return;
  const [decoder, count] = [chosen(), description.decoders.length];
  const { g_s_kmac_px: own } = description.decoders[decoder];
  const took = pictures.get(decoder)?.milliseconds;
  $("chosen").textContent = `Decoder ${decoder + 1} of ${count}`;
  set("g_s", kmac(own));
  set("decoder", kmac(costOf(decoder)));
  set("took", took && milliseconds(took));
  const spoken = [`${decoder + 1} of ${count}`, kmac(costOf(decoder)), ...(took ? [milliseconds(took)] : [])];
  $("slider").setAttribute("aria-valuetext", spoken.join(", "));
  for (const [place, row] of [...$("bars").children].entries()) row.toggleAttribute("data-chosen", place === decoder);
}

function tell(text) {
  $("status").textContent = text;
}

function complain(text) {
  busy(false);
  tell("");
  $("problem").textContent = text;
}

/** Progress: a share, null where it is not known, false where nothing runs. */
function busy(share) {
  const bar = $("progress");
  bar.classList.toggle("busy", share !== false);
  if (share === null) bar.removeAttribute("value");
  else bar.value = Number(share);
}

// What people choose

/** The files below the nearest folder that has a codec.json, by their path in it. */
function codecFiles(files) {
  const roots = files.map(({ path }) => path).filter((path) => /(^|\/)codec\.json$/.test(path));
  if (!roots.length) return null;
  const root = roots.sort((one, other) => one.length - other.length)[0].slice(0, -"codec.json".length);
  return Object.fromEntries(files.filter(({ path }) => path.startsWith(root)).map(({ path, file: each }) => [path.slice(root.length), each]));
}

async function take(files) {
  const codec = codecFiles(files);
  if (codec) openCodec({ files: codec });
  const nic = files.find(({ path }) => path.endsWith(".nic")) ?? (codec ? null : files[0]);
  if (nic) openFile(new Uint8Array(await nic.file.arrayBuffer()));
}

/** All files of what was dropped, folders included. */
async function dropped(entry, path = "") {
  if (entry.isFile) return [{ path: path + entry.name, file: await new Promise((...then) => entry.file(...then)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // it gives a part at a time
    const part = await new Promise((...then) => reader.readEntries(...then));
    if (!part.length) return found;
    for (const each of part) found.push(...(await dropped(each, `${path}${entry.name}/`)));
  }
}

for (const id of ["file", "folder"]) {
  $(id).addEventListener("change", ({ target }) => {
    const files = [...target.files].map((each) => ({ path: each.webkitRelativePath || each.name, file: each }));
    target.value = ""; // so that the same one can be chosen again
    if (id === "folder" && !codecFiles(files)) {
      complain("The folder holds no codec.json: choose the onnx folder that nas export --onnx wrote.");
    } else if (files.length) {
      take(files);
    }
  });
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("stage").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("stage").classList.remove("over");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  $("stage").classList.remove("over");
  const parts = [...event.dataTransfer.items].filter(({ kind }) => kind === "file").map((item) => {
    const entry = item.webkitGetAsEntry(); // both must be asked for before anything is waited for
    const file = item.getAsFile();
    return entry ? dropped(entry) : [{ path: file.name, file }];
  });
  const files = (await Promise.all(parts)).flat();
  if (files.length) take(files);
});
$("slider").addEventListener("input", show);
$("compare").addEventListener("change", show);
$("split").addEventListener("input", ({ target }) => {
  $("frame").style.setProperty("--split", `${target.value}%`);
});

async function start() {
  const query = new URLSearchParams(location.search);
  const codec = query.get("codec") ?? EXAMPLE.codec;
  const first = query.get("file") ?? (query.has("codec") ? null : EXAMPLE.file);
  openCodec({ url: new URL(codec.endsWith("/") ? codec : `${codec}/`, location.href).href });
  if (!first) return;
  const answer = await fetch(first).catch(() => ({ ok: false }));
  if (answer.ok) openFile(new Uint8Array(await answer.arrayBuffer()));
  else complain(`There is no file ${first}: open one of your own.`);
}

start();
