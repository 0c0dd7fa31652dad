// The .nic file: see docs/codec.md.

import { Problem } from "./problem.js";

const [PLAIN, RATED] = [1, 2]; // versions: of codecs of one rate, and of those that hold a quality
const GREY = 4; // added to the version of a grey picture's file
const STEPS_OF_QUALITY = 1000;
const FIXED = 16; // bytes before the picture's size
const MAX_SIDE = 65535; // pixels

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  return sum;
});

/** The CRC-32 of parts that follow one another. */
export function crc32(...parts) {
  let sum = 0xffffffff;
  for (const part of parts) for (const byte of part) sum = CRC[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

/** A number of seven bits a byte, the lowest first, and what follows it. */
export function readVarint(bytes) {
  let value = 0;
  for (let place = 0; place < Math.min(5, bytes.length); place++) {
    value += (bytes[place] & 0x7f) * 2 ** (7 * place);
    if (bytes[place] < 0x80) return [value, bytes.subarray(place + 1)];
  }
  throw new Problem("The file is cut short or damaged, because a number in it does not end: get it again.");
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * Read and check a file's bytes.
 *
 * @param {Uint8Array} bytes
 * @returns {{pathIdentity: string, fingerprint: string, width: number, height: number, quality: number | null,
 *   grey: boolean, stream: Uint8Array}} quality from 0 to 1, null in files of codecs of one rate
 */
export function parseNic(bytes) {
  if (bytes.length < 4 || String.fromCharCode(...bytes.subarray(0, 3)) !== "NIC") {
    throw new Problem("This is not a .nic file: nas compress makes them.");
  }
  const version = bytes[3] & ~GREY;
  if (version !== PLAIN && version !== RATED) {
    throw new Problem(`The file has .nic version ${version}, but this page reads versions up to ${RATED}: use a newer page.`);
  }
  const head = bytes.subarray(0, 12);
  const tail = bytes.subarray(FIXED);
  const sum = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length <= FIXED || crc32(head, tail) !== sum.getUint32(12, true)) {
    throw new Problem("The file is cut short or damaged, because its checksum does not fit: get it again.");
  }
  const [width, rest] = readVarint(tail);
  const [height, after] = readVarint(rest);
  if (width === 0 || height === 0) throw new Problem("The file says that its picture is empty, so it is damaged: get it again.");
  if (Math.max(width, height) > MAX_SIDE) {
    throw new Problem(`The file says that its picture has ${width}x${height} pixels, which no picture has, so it is damaged: get it again.`);
  }
  const [step, stream] = version === RATED ? readVarint(after) : [null, after];
  if (step > STEPS_OF_QUALITY) throw new Problem("The file has a quality that does not exist, so it is damaged: get it again.");
  const quality = step === null ? null : step / STEPS_OF_QUALITY;
  const grey = (bytes[3] & GREY) !== 0;
  return { pathIdentity: hex(bytes.subarray(4, 8)), fingerprint: hex(bytes.subarray(8, 12)), width, height, quality, grey, stream };
}
