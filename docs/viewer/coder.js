// constriction 0.5's range decoder: words of 32 bits, a state of 64, probabilities in 2^-24.
//
// A number of 64 bits is held as high * 2^20 + low: with 44 and 20 bits, products with probabilities are exact in
// doubles, many times faster than BigInt.

import { Problem } from "./problem.js";
import { WHOLE } from "./gaussian.js";

const LOW = 2 ** 20;
const SLACK = 2; // words that the coder may save on all symbols together by rounding
const DAMAGED = "The coded data is damaged, because no encoder writes it like this: get the file again.";

/** Reads symbols in the order in which they were written. */
export class RangeDecoder {
  /** @param {Uint8Array} bytes the stream, a whole number of words. */
  constructor(bytes) {
    if (bytes.length % 4) throw new Problem("The coded data is cut short, because its length is not a multiple of 4 bytes: get the file again.");
    this.words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.place = 0;
    this.rangeHigh = 2 ** 44 - 1;
    this.rangeLow = LOW - 1;
    this.aheadHigh = 0; // how far what was read is above the range's lower end
    this.aheadLow = 0;
    this.scale = 0;
    this.rest = 0;
    this.found = 0;
    this.started = false;
    const first = this.word();
    this.append(first, this.word());
  }

  word() {
    if (this.place >= this.words.byteLength) return 0;
    const word = this.words.getUint32(this.place, true);
    this.place += 4;
    return word;
  }

  append(ahead, word) {
    this.aheadHigh = ahead * 2 ** 12 + (word >>> 20);
    this.aheadLow = word & (LOW - 1);
  }

  /** Where in [0, 2^24) the next symbol lies: `take` must follow. */
  quantile() {
    const scale = Math.floor(this.rangeHigh / 16);
    const scaleHigh = Math.floor(scale / LOW);
    const scaleLow = scale - scaleHigh * LOW;
    let found = Math.floor((this.aheadHigh * LOW + this.aheadLow) / scale); // rounded: it may be one off
    let rest = (this.aheadHigh - found * scaleHigh) * LOW + (this.aheadLow - found * scaleLow);
    if (rest < 0) {
      found -= 1;
      rest += scale;
    } else if (rest >= scale) {
      found += 1;
      rest -= scale;
    }
    if (found >= WHOLE) throw new Problem(DAMAGED);
    this.scale = scale;
    this.rest = rest;
    this.found = found;
    return found;
  }

  /** Go on after the symbol that has this probability above this cumulative. */
  take(left, probability) {
    const scaleHigh = Math.floor(this.scale / LOW);
    const scaleLow = this.scale - scaleHigh * LOW;
    const above = this.found - left;
    const ahead = above * scaleLow + this.rest;
    this.aheadHigh = above * scaleHigh + Math.floor(ahead / LOW);
    this.aheadLow = ahead % LOW;
    const range = probability * scaleLow;
    this.rangeHigh = probability * scaleHigh + Math.floor(range / LOW);
    this.rangeLow = range % LOW;
    this.started = true;
    if (this.rangeHigh < 2 ** 12) {
      this.rangeHigh = (this.rangeHigh * LOW + this.rangeLow) * 2 ** 12;
      this.rangeLow = 0;
      this.append(this.aheadHigh * LOW + this.aheadLow, this.word());
    }
  }

  /**
   * A whole latent, [channels, positions].
   *
   * @param {number[][]} tables frequencies per channel, an odd number of them
   * @param {number} positions
   * @param {number} limit of the numbers' size
   */
  underTables(tables, positions, limit) {
    const words = this.words.byteLength / 4 + SLACK;
    if (tables.reduce((bits, table) => bits + leastBits(table, limit), 0) * positions > 32 * words) {
      throw new Problem("The coded data is too short for a picture of its size, so the file is damaged: get it again.");
    }
    const found = new Float32Array(tables.length * positions);
    for (let channel = 0; channel < tables.length; channel++) {
      const under = cumulatives(within(tables[channel], limit));
      for (let place = 0; place < positions; place++) {
        found[channel * positions + place] = this.under(under) - Math.max(1, limit);
      }
    }
    return found;
  }

  /** The next symbol under cumulatives. */
  under(cumulatives) {
    const quantile = this.quantile();
    let low = 0;
    let high = cumulatives.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (cumulatives[middle] <= quantile) low = middle;
      else high = middle;
    }
    this.take(cumulatives[low], cumulatives[high] - cumulatives[low]);
    return low;
  }

  /** Say that all has been read. */
  finish() {
    const near = this.aheadHigh * LOW + this.aheadLow < 2 ** 33 - 1;
    if (this.place < this.words.byteLength || (this.started && !near)) {
      throw new Problem("The coded data continues after its end, so the file is damaged: get it again.");
    }
  }
}

/** Frequencies within +-limit of the middle of an odd number of them: beyond them, they are 1. */
function within(frequencies, limit) {
  const centre = (frequencies.length - 1) / 2;
  const reach = Math.max(1, limit);
  return Float64Array.from({ length: 2 * reach + 1 }, (_, place) => frequencies[centre - reach + place] ?? 1);
}

/** The fewest bits that a symbol can take: the likeliest of them. */
function leastBits(frequencies, limit) {
  const inside = within(frequencies, Math.min(limit, (frequencies.length - 1) / 2));
  return Math.log2(inside.reduce((sum, frequency) => sum + frequency, 0) / Math.max(...inside));
}

/** Where symbols begin in [0, 2^24), and at last its end, from frequencies: every symbol has a unit of its own. */
function cumulatives(frequencies) {
  const scale = (WHOLE - frequencies.length) / frequencies.reduce((sum, frequency) => sum + frequency, 0);
  const found = new Int32Array(frequencies.length + 1).fill(WHOLE);
  let sum = 0;
  for (let symbol = 0; symbol < frequencies.length; symbol++) {
    found[symbol] = Math.floor(sum * scale) + symbol;
    sum += frequencies[symbol];
  }
  return found;
}
