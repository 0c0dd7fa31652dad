// What the page's modules that need no runtime make of what they are given, under node:
//   node viewer_parts.mjs VIEWER < a list of tasks > a list of answers, {"problem": ...} where one is refused

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const use = (name) => import(pathToFileURL(path.resolve(process.argv[2], name)));
const { RangeDecoder } = await use("coder.js");
const { Gaussians, exp, erf } = await use("gaussian.js");
const { parseNic } = await use("nic.js");
const { Problem } = await use("problem.js");

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
};

const answers = JSON.parse(fs.readFileSync(0)).map(({ kind, ...task }) => {
  try {
    return TASKS[kind](task);
  } catch (error) {
    if (error instanceof Problem) return { problem: error.message };
    throw error;
  }
});
process.stdout.write(JSON.stringify(answers));
