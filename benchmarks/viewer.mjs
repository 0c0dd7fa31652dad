// Runs the modules of the page under node for viewer.py, on one thread. Each line of the input is a request, and each
// request is answered with a line.
//   node viewer.mjs VIEWER CODEC FILE.nic SYMBOLS.json

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const [viewer, folder, file, symbols] = process.argv.slice(2);
const use = (name) => import(pathToFileURL(path.resolve(viewer, name)));
const ort = await use("node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs");
const { Codec } = await use("codec.js");
const { RangeDecoder } = await use("coder.js");
const { Gaussians } = await use("gaussian.js");
const { parseNic } = await use("nic.js");

ort.env.wasm.numThreads = 1;
const codec = await Codec.open(ort, async (part) => new Uint8Array(fs.readFileSync(path.join(folder, part))));
const { data, scales, parts, limit, levels, means } = JSON.parse(fs.readFileSync(symbols));
const bytes = Uint8Array.from(Buffer.from(data, "base64"));
let nic;
let latents;

const JOBS = {
  async load() {
    nic = parseNic(new Uint8Array(fs.readFileSync(file)));
    await codec.prepare(codec.layoutOf(nic));
    await codec.prepare(codec.description.decoders[0]);
  },
  async latents() {
    latents = await codec.decode(nic);
  },
  async picture() {
    await codec.synthesize(0, latents, nic);
  },
  async symbols() {
    const coder = new RangeDecoder(bytes);
    const gaussians = new Gaussians(scales, parts, limit);
    const values = new Float32Array(levels.length);
    for (let place = 0; place < values.length; place++) {
      values[place] = gaussians.read(coder, levels[place], means[place]);
    }
    coder.finish();
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  await JOBS[line]();
  console.log("done");
}
