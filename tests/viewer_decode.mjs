// Decodes .nic files with the page's own modules under node:
//   node viewer_decode.mjs VIEWER CODEC FILE...
// y_hat of a FILE goes to FILE.y as int16, the RGBA of its decoders to FILE.0, FILE.1, ...

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [viewer, folder, ...files] = process.argv.slice(2);
const use = (name) => import(pathToFileURL(path.resolve(viewer, name)));
const ort = await use("node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs");
const { Codec } = await use("codec.js");
const { parseNic } = await use("nic.js");

ort.env.wasm.numThreads = 1;
const codec = await Codec.open(ort, async (name) => new Uint8Array(fs.readFileSync(path.join(folder, name))));
for (const file of files) {
  const nic = parseNic(new Uint8Array(fs.readFileSync(file)));
  const latents = await codec.decode(nic);
  fs.writeFileSync(`${file}.y`, Int16Array.from(latents.y));
  for (const number of codec.description.decoders.keys()) {
    fs.writeFileSync(`${file}.${number}`, await codec.synthesize(number, latents, nic));
  }
}
await codec.close();
