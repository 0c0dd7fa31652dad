// From a stream to y_hat: z under the factorised prior, then y stage by stage, as nas/graph/staged.py codes it.

import { RangeDecoder } from "./coder.js";
import { Gaussians, levelOf } from "./gaussian.js";
import { readVarint } from "./nic.js";
import { Problem } from "./problem.js";
import { Table } from "./table.js";

export const Y_REDUCTION = 16; // pixels a latent
const Z_REDUCTION = 4; // of y
const SLICE = 8192; // positions that are computed together at most
const KEPT = ["phi", "hidden_1", "hidden_2"];

/**
 * The decoder's work on a latent of this size, in order: lists of (block, positions) that are computed together.
 *
 * @returns {{work: {block: object, positions: Int32Array}[][], stages: number}}
 */
export function steps(layout, height, width) {
  const [down, right] = layout.slope;
  const [rows, columns] = layout.tile;
  const byStep = new Map();
  for (const block of layout.blocks) {
    const mine = new Map();
    for (let row = block.row; row < height; row += rows) {
      for (let column = block.column; column < width; column += columns) {
        const step = down * row + right * column + block.stage;
        if (!mine.has(step)) mine.set(step, []);
        mine.get(step).push(row * width + column);
      }
    }
    for (const [step, positions] of mine) {
      if (!byStep.has(step)) byStep.set(step, []);
      byStep.get(step).push({ block, positions: Int32Array.from(positions) });
    }
  }
  const inOrder = [...byStep.keys()].sort((one, other) => one - other);
  return { work: inOrder.flatMap((step) => cutUp(byStep.get(step))), stages: inOrder.length };
}

function cutUp(work) {
  if (work.reduce((sum, { positions }) => sum + positions.length, 0) <= SLICE) return [work];
  const parts = [];
  for (const { block, positions } of work) {
    for (let first = 0; first < positions.length; first += SLICE) {
      parts.push([{ block, positions: positions.subarray(first, first + SLICE) }]);
    }
  }
  return parts;
}

/** [channels, positions] as [positions, channels], and back with the counts exchanged. */
function transposed(values, channels, positions) {
  const found = new Float32Array(values.length);
  for (let channel = 0; channel < channels; channel++) {
    for (let place = 0; place < positions; place++) {
      found[place * channels + channel] = values[channel * positions + place];
    }
  }
  return found;
}

/** What blocks read and write while y is decoded; positions run row by row, channels lie last. */
class State {
  constructor(description, layout, psi, height, width) {
    const { y_channels: channels, window } = description;
    this.psi = psi;
    this.channels = channels;
    this.width = width;
    this.height = height;
    this.reach = (window - 1) / 2;
    this.wide = width + 2 * this.reach;
    this.psiWidth = psi.length / (height * width);
    this.y = new Float32Array((height + 2 * this.reach) * this.wide * channels);
    this.kept = Object.fromEntries(KEPT.map((name) => {
      const size = Math.max(0, ...layout.blocks.flatMap((block) => block[`${name}_new`] ?? []).map((i) => i + 1));
      return [name, { size, values: new Float32Array(size * height * width) }];
    }));
  }

  /** Where the window around a position begins, in places. */
  corner(position) {
    return Math.floor(position / this.width) * this.wide + (position % this.width);
  }

  /** A block's inputs at some positions, by name: values and shape. */
  inputs(block, positions) {
    const found = { psi: gather(this.psi, this.psiWidth, null, positions) };
    if (block.seen?.length) found.y = this.columns(block, positions);
    for (const name of KEPT) {
      if (block[name]?.length) found[name] = gather(this.kept[name].values, this.kept[name].size, block[name], positions);
    }
    return found;
  }

  columns(block, positions) {
    const taps = block.seen.flatMap(({ rows, columns, channels }) =>
      rows.map((row, place) => ({ near: row * this.wide + columns[place], channels })));
    const size = taps.reduce((sum, { channels }) => sum + channels.length, 0);
    const values = new Float32Array(positions.length * size);
    let next = 0;
    for (let row = 0; row < positions.length; row++) {
      const corner = this.corner(positions[row]);
      for (let tap = 0; tap < taps.length; tap++) {
        const { near, channels } = taps[tap];
        const start = (corner + near) * this.channels;
        for (let place = 0; place < channels.length; place++) values[next++] = this.y[start + channels[place]];
      }
    }
    return { values, shape: [positions.length, size] };
  }

  keep(block, positions, outputs) {
    for (const name of KEPT) {
      const places = block[`${name}_new`];
      if (!places?.length) continue;
      const { size, values } = this.kept[name];
      scatter(values, size, places, positions, outputs[`${name}_new`]);
    }
  }

  write(block, positions, values) {
    const middle = this.reach * this.wide + this.reach;
    scatter(this.y, this.channels, block.channels, positions.map((position) => this.corner(position) + middle), values);
  }

  /** y_hat, [channels, height, width]. */
  result() {
    const found = new Float32Array(this.channels * this.height * this.width);
    const positions = this.height * this.width;
    for (let position = 0; position < positions; position++) {
      const start = (this.corner(position) + this.reach * this.wide + this.reach) * this.channels;
      for (let channel = 0; channel < this.channels; channel++) {
        found[channel * positions + position] = this.y[start + channel];
      }
    }
    return found;
  }
}

/** Some of what a store, [positions, size], holds at some positions: all where there is no index. */
function gather(store, size, index, positions) {
  const wanted = index ? index.length : size;
  const values = new Float32Array(positions.length * wanted);
  for (let row = 0; row < positions.length; row++) {
    const start = positions[row] * size;
    if (!index) values.set(store.subarray(start, start + size), row * wanted);
    else for (let place = 0; place < wanted; place++) values[row * wanted + place] = store[start + index[place]];
  }
  return { values, shape: [positions.length, wanted] };
}

/** Put values, [some positions, some places], into a store, [positions, size]. */
function scatter(store, size, index, positions, values) {
  for (let row = 0; row < positions.length; row++) {
    const start = positions[row] * size;
    for (let place = 0; place < index.length; place++) store[start + index[place]] = values[row * index.length + place];
  }
}

/** The scales and means that psi itself holds, where there is no context model: means of 0 where it has none. */
function fromPsi({ values, shape: [positions, size] }, count) {
  const scales = new Float32Array(positions * count);
  const means = new Float32Array(positions * count);
  for (let row = 0; row < positions; row++) {
    const psi = values.subarray(row * size, (row + 1) * size);
    scales.set(psi.subarray(0, count), row * count);
    means.set(psi.subarray(count, 2 * count), row * count);
  }
  return { scales, means };
}

/** What the network of a table makes of psi at every position, [positions, channels]: scales and means. */
async function everywhere(state, { file }, run) {
  const count = state.height * state.width;
  const found = { scales: new Float32Array(count * state.channels), means: new Float32Array(count * state.channels) };
  for (let first = 0; first < count; first += SLICE) {
    const positions = Int32Array.from({ length: Math.min(SLICE, count - first) }, (_, place) => first + place);
    const outputs = await run(file, { psi: gather(state.psi, state.psiWidth, null, positions) });
    for (const name of ["scales", "means"]) found[name].set(outputs[name], first * state.channels);
  }
  return found;
}

/**
 * Decode y_hat.
 *
 * @param {object} description of the codec: codec.json
 * @param {object} layout the one that made the file
 * @param {{width: number, height: number, stream: Uint8Array}} nic
 * @param {(file: string, inputs: object) => Promise<object>} run an ONNX file on {name: {values, shape}}: values by name
 * @param {(share: number) => Promise<void>} progress told how much is done, 0 to 1, after every stage; may throw
 * @returns {Promise<{y: Float32Array, height: number, width: number, stages: number}>} y: [channels, height, width]
 */
export async function decodeLatents(description, layout, nic, run, progress = async () => {}) {
  const [height, width] = [nic.height, nic.width].map(
    (side) => (Math.ceil(side / description.alignment) * description.alignment) / Y_REDUCTION,
  );
  const withZ = description.z_channels > 0;
  const [limit, afterFirst] = readVarint(nic.stream);
  const [yLimit, stream] = withZ ? readVarint(afterFirst) : [limit, afterFirst];
  if (limit > (withZ ? description.z_limit : description.y_limit) || yLimit > description.y_limit) {
    throw new Problem("The coded data has latents beyond their limits, so the file is damaged: get it again.");
  }
  const coder = new RangeDecoder(stream);
  if (!withZ) {
    const y = coder.underTables(description.table, height * width, limit);
    coder.finish();
    return { y, height, width, stages: 1 };
  }
  const [zHeight, zWidth] = [height / Z_REDUCTION, width / Z_REDUCTION];
  const z = coder.underTables(description.table, zHeight * zWidth, limit);
  const { psi } = await run("h_s.onnx", { z_hat: { values: z, shape: [1, description.z_channels, zHeight, zWidth] } });
  const positions = height * width;
  const state = new State(description, layout, transposed(psi, psi.length / positions, positions), height, width);
  const gaussians = new Gaussians(description.scales, description.mean_steps, yLimit);
  const table = layout.table && new Table(description, layout.table, await everywhere(state, layout.table, run), height, width);
  const { work, stages } = steps(layout, height, width);
  for (const [number, parts] of work.entries()) {
    const parameters = [];
    for (const { block, positions: here } of parts) {
      if (table) {
        parameters.push(table.lookUp(block, here));
        continue;
      }
      const inputs = state.inputs(block, here);
      if (block.file === null) {
        parameters.push(fromPsi(inputs.psi, block.channels.length));
      } else {
        const outputs = await run(block.file, inputs);
        state.keep(block, here, outputs);
        parameters.push(outputs);
      }
    }
    parts.forEach(({ block, positions: here }, part) => {
      const { scales, levels, means } = parameters[part];
      const values = new Float32Array(means.length);
      for (let place = 0; place < values.length; place++) {
        const level = levels ? levels[place] : levelOf(description.scale_bounds, scales[place]);
        values[place] = gaussians.read(coder, level, means[place]);
      }
      state.write(block, here, values);
      if (table) table.note(block, here, values);
    });
    await progress((number + 1) / work.length);
  }
  coder.finish();
  return { y: state.result(), height, width, stages };
}
