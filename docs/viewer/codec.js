// A folder that `nas export --onnx` wrote: its entropy path, its layouts and its decoders, on onnxruntime.

import { misfit } from "./form.js";
import { Y_REDUCTION, decodeLatents } from "./latents.js";
import { Problem } from "./problem.js";

const FORMAT = "nas-onnx 1";
const CODER = "constriction-0.5";

/**
 * Give each pixel of RGBA the rounded mean of its colours, in place, as all decoders do for a grey picture.
 * A third of a whole number is never half way between two integers, so this is exact.
 */
export function toGrey(pixels) {
  for (let at = 0; at < pixels.length; at += 4) {
    pixels.fill(Math.floor((pixels[at] + pixels[at + 1] + pixels[at + 2] + 1) / 3), at, at + 3);
  }
}

/** A codec, or a family of decoders of the same files. */
export class Codec {
  /**
   * @param {object} ort onnxruntime-web, or another onnxruntime of the same interface
   * @param {(name: string) => Promise<Uint8Array>} read a file of the folder
   */
  static async open(ort, read) {
    const codec = new Codec();
    codec.ort = ort;
    codec.read = read;
    codec.sessions = new Map();
    const content = await read("codec.json");
    try {
      codec.description = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content));
    } catch {
      codec.description = null;
    }
    const { format, coder } = codec.description ?? {};
    if (typeof format !== "string" || typeof coder !== "string") {
      throw new Problem("The codec's codec.json cannot be read: export the codec again with nas export --onnx.");
    }
    if (format !== FORMAT || coder !== CODER) {
      throw new Problem(`The codec has the format ${format} with the coder ${coder}, but this page reads ${FORMAT} with ${CODER}: export the codec again, or use another version of this page.`);
    }
    const wrong = misfit(codec.description);
    if (wrong !== null) {
      throw new Problem(`The codec's codec.json is damaged, because ${wrong} is missing or of another kind: export the codec again with nas export --onnx.`);
    }
    return codec;
  }

  /** The layout that made a file. */
  layoutOf(nic) {
    const found = this.description.layouts.find(({ entropy_path: path }) => path === nic.pathIdentity);
    if (!found) {
      const known = this.description.layouts.map(({ entropy_path: path }) => path).join(", ");
      throw new Problem(
        `Another codec made this file (entropy path ${nic.pathIdentity}, here ${known}): choose the folder of that codec.`,
      );
    }
    return found;
  }

  /** y_hat of a parsed file: see `decodeLatents`. */
  async decode(nic, progress) {
    return decodeLatents(this.description, this.layoutOf(nic), nic, (file, inputs) => this.run(file, inputs), progress);
  }

  /** Make one decoder, or a layout's entropy path, ready, so that running it takes only its own time. */
  async prepare(part) {
    const blocks = part.table ? [part.table] : part.blocks;
    const files = blocks ? ["h_s.onnx", ...blocks.map(({ file }) => file)] : [part.file];
    for (const file of files) if (file && (file !== "h_s.onnx" || this.description.z_channels)) await this.session(file);
  }

  /** The picture at one decoder, as RGBA in 8 bits, cropped to the file's size. */
  async synthesize(decoder, latents, { width, height, quality, grey }) {
    const shape = [1, this.description.y_channels, latents.height, latents.width];
    const values = this.scaled(latents, quality);
    const { x_hat: x } = await this.run(this.description.decoders[decoder].file, { y_hat: { values, shape } });
    const wide = latents.width * Y_REDUCTION;
    const plane = wide * latents.height * Y_REDUCTION;
    const pixels = new Uint8ClampedArray(4 * width * height).fill(255);
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const from = row * wide + column;
        const to = 4 * (row * width + column);
        for (let colour = 0; colour < 3; colour++) pixels[to + colour] = 255 * x[colour * plane + from]; // clamps, rounds
      }
    }
    if (grey) toGrey(pixels);
    return pixels;
  }

  /**
   * y_hat as g_s reads it: over a range of rates every channel has a gain, between anchors interpolated.
   * A file without a quality is decoded at the anchor in the middle, of an even number at the lower one.
   */
  scaled({ y, height, width }, quality) {
    const { rates } = this.description;
    if (!rates) return y;
    const anchors = rates.lambdas.map(Math.log);
    const last = anchors.length - 1;
    const middle = anchors[Math.floor(last / 2)];
    const here = quality === null ? middle : anchors[0] + quality * (anchors[last] - anchors[0]);
    const next = Math.max(1, anchors.findIndex((anchor, place) => here <= anchor || place === last));
    const share = Math.min(1, (here - anchors[next - 1]) / (anchors[next] - anchors[next - 1]));
    const [low, high] = [rates.before_g_s[next - 1], rates.before_g_s[next]];
    const gains = low.map((log, channel) => Math.exp(log + share * (high[channel] - log)));
    const plane = height * width;
    return y.map((value, place) => value * gains[Math.floor(place / plane)]);
  }

  /** Run one of the folder's files on {name: {values, shape}}: the values of its outputs by name. */
  async run(file, inputs) {
    const session = await this.session(file);
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([name, { values, shape }]) => [name, new this.ort.Tensor("float32", values, shape)]),
    );
    const outputs = await session.run(feeds);
    return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]));
  }

  session(file) {
    if (!this.sessions.has(file)) {
      const made = this.read(file).then((bytes) => this.make(file, bytes));
      made.catch(() => this.sessions.delete(file)); // what failed is tried again
      this.sessions.set(file, made);
    }
    return this.sessions.get(file);
  }

  async make(file, bytes) {
    try {
      return await this.ort.InferenceSession.create(bytes);
    } catch (error) {
      console.warn(error); // for whoever writes such files
      throw new Problem(`The model ${file} is damaged, or the browser lacks memory for it: close other pages, or export the codec again with nas export --onnx.`);
    }
  }

  /** Give its memory back. */
  async close() {
    const sessions = await Promise.allSettled(this.sessions.values());
    this.sessions.clear();
    for (const { value } of sessions) await value?.release();
  }
}
