// What the page's modules that need no runtime make of what they are given, under node:
//   node viewer_parts.mjs VIEWER < a list of tasks > a list of answers, {"problem": ...} where one is refused

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const use = (name) => import(pathToFileURL(path.resolve(process.argv[2], name)));
const { RangeDecoder } = await use("coder.js");
const { Gaussians, exp, erf } = await use("gaussian.js");
const { parseNic } = await use("nic.js");
const { misfit } = await use("form.js");
const { Codec, toGrey } = await use("codec.js");
const { Problem, sentence } = await use("problem.js");

const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));

const TASKS = {
  stream({ data, tables, tableLimit, positions, scales, parts, limit, levels, means }) {
    const coder = new RangeDecoder(bytes(data));
    const first = Array.from(coder.underTables(tables, positions, tableLimit));
    const gaussians = new Gaussians(scales, parts, limit);
    const values = levels.map((level, place) => gaussians.read(coder, level, means[place]));
    coder.finish();
    return { first, values };
  },
  nic({ data }) {
    const { stream, ...head } = parseNic(bytes(data));
    return { ...head, stream: Buffer.from(stream).toString("base64") };
  },
  functions({ values }) {
    return { erf: values.map(erf), exp: values.map(exp) };
  },
  grey({ data }) {
    const pixels = Uint8ClampedArray.from(bytes(data));
    toGrey(pixels);
    return { data: Buffer.from(pixels).toString("base64") };
  },
  misfit({ text }) {
    return { misfit: misfit(JSON.parse(text)) };
  },
  /** Open a codec, and load a model that the runtime refuses, or decode a file with models that give nothing. */
  async codec({ json, model, file }) {
    const create = async () => {
      if (model) throw new Error("protobuf parsing failed");
      return { run: async () => ({}), release: async () => {} };
    };
    const ort = { InferenceSession: { create }, Tensor: class {} };
    const codec = await Codec.open(ort, async (name) => bytes(name === "codec.json" ? json : ""));
    if (model) await codec.session(model).finally(() => codec.close());
    if (file) await codec.decode(parseNic(bytes(file)));
    return { family: codec.description.family };
  },
};

const answers = [];
for (const { kind, request, ...task } of JSON.parse(fs.readFileSync(0))) {
  try {
    answers.push(await TASKS[kind](task));
  } catch (error) {
    if (!(error instanceof Problem) && !request) throw error;
    answers.push({ problem: sentence(request, error) });
  }
}
process.stdout.write(JSON.stringify(answers));
