// Where a table reads the context: it shifts the levels of scales that the network finds from psi alone, as
// nas/graph/scale_table.py has it.

import { levelOf } from "./gaussian.js";

const UNKNOWN = -1; // in place of a surprise: not decoded yet, or beyond the border

export class Table {
  /**
   * @param {object} description of the codec: codec.json
   * @param {object} table of one of its layouts
   * @param {{scales: Float32Array, means: Float32Array}} network what it makes of psi, [positions, channels]
   * @param {number} height of y
   * @param {number} width of y
   */
  constructor(description, table, { scales, means }, height, width) {
    this.channels = description.y_channels;
    this.parts = description.mean_steps;
    this.table = table;
    this.means = means;
    this.levels = Uint8Array.from(scales, (units) => levelOf(description.scale_bounds, units));
    this.last = description.scales.length - 1;
    this.width = width;
    this.wide = width + 2;
    this.surprises = new Int8Array((height + 2) * this.wide * this.channels).fill(UNKNOWN);
  }

  /** Where a position stands among those with a border. */
  middle(position) {
    return (Math.floor(position / this.width) + 1) * this.wide + (position % this.width) + 1;
  }

  /** Levels and means of a block's channels at some positions, [positions, channels]. */
  lookUp(block, positions) {
    const levels = new Uint8Array(positions.length * block.channels.length);
    const means = new Float32Array(levels.length);
    let next = 0;
    for (const position of positions) {
      const middle = this.middle(position);
      block.channels.forEach((channel, place) => {
        const own = position * this.channels + channel;
        const shift = this.table.shifts[channel][this.state(block, middle, channel, place)];
        levels[next] = Math.min(this.last, Math.max(0, this.levels[own] + shift));
        means[next++] = this.means[own];
      });
    }
    return { levels, means };
  }

  state(block, middle, channel, place) {
    let total = 0;
    let known = 0;
    this.table.around.forEach(([row, column], number) => {
      if (!block.known[number][place]) return;
      const surprise = this.surprises[(middle + row * this.wide + column) * this.channels + channel];
      if (surprise === UNKNOWN) return;
      total += this.table.weights[number] * surprise;
      known += this.table.weights[number];
    });
    return this.table.states[total][known];
  }

  /** Keep how surprising decoded values are, [positions, channels]. */
  note(block, positions, values) {
    let next = 0;
    for (const position of positions) {
      const middle = this.middle(position);
      for (const channel of block.channels) {
        const own = position * this.channels + channel;
        const away = Math.abs(values[next++] * this.parts - this.means[own]);
        const exceeded = this.table.surprises.filter((bounds) => away > bounds[this.levels[own]]).length;
        this.surprises[middle * this.channels + channel] = exceeded;
      }
    }
  }
}
