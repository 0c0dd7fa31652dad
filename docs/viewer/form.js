// What a codec.json must hold to be decoded and shown, as nas/onnx/decoder.py has it.

const MOST = 2 ** 16;
const text = (value) => typeof value === "string";
const number = (value) => typeof value === "number";
const whole = (value) => Number.isInteger(value);
const index = (value) => whole(value) && value >= 0 && value < MOST;
const count = (value) => index(value) && value > 0;
const bit = (value) => value === 0 || value === 1;

// Forms: tests of a value; lists of any length whose elements have a form, or of two elements where the form has two;
// and mappings. The keys of `maybe` may be missing.
const maybe = Symbol("keys that may be missing");
const COSTS = { kmac_px: { [maybe]: { decoder: number } } };
const FORM = {
  alignment: count, y_channels: count, z_channels: index, window: count, y_limit: index, z_limit: index,
  mean_steps: count, scales: [number], scale_bounds: [number], table: [[number]], default: index,
  decoders: [{ file: text, arch: text, [maybe]: { ...COSTS, g_s_kmac_px: number } }],
  layouts: [{ name: text, entropy_path: text, [maybe]: COSTS }],
  [maybe]: { family: text },
};
const LINK = [index]; // of what blocks leave for later blocks
const LINKS = Object.fromEntries(["phi", "hidden_1", "hidden_2"].flatMap((name) => [[name, LINK], [`${name}_new`, LINK]]));
const BLOCK = { row: index, column: index, stage: index, channels: [index], [maybe]: LINKS };
const SEEN = { rows: [index], columns: [index], channels: [index] };
const ORDER = { slope: [whole, whole], tile: [count, count] };
const BY_NETWORKS = { ...ORDER, blocks: [{ ...BLOCK, file: (value) => value === null || text(value), seen: [SEEN] }] };
const TABLE = {
  file: text, surprises: [[number]], states: [[index]], shifts: [[whole]], around: [[whole, whole]], weights: [number],
};
const BY_TABLE = { ...ORDER, blocks: [{ ...BLOCK, known: [[bit]] }], table: TABLE };
const RATES = { lambdas: [number], before_g_s: [[number]] };

const isMapping = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function wrong(value, form, name) {
  if (typeof form === "function") return form(value) ? null : name;
  if (Array.isArray(form)) {
    if (!Array.isArray(value) || (form.length === 2 && value.length !== 2)) return name;
    for (const each of value) {
      const found = wrong(each, form[0], name);
      if (found !== null) return found;
    }
    return null;
  }
  if (!isMapping(value)) return name;
  for (const [keys, needed] of [[form, true], [form[maybe] ?? {}, false]]) {
    for (const [key, inner] of Object.entries(keys)) {
      const path = name ? `${name}.${key}` : key;
      const has = Object.hasOwn(value, key);
      if (!has && !needed) continue;
      const found = has ? wrong(value[key], inner, path) : path;
      if (found !== null) return found;
    }
  }
  return null;
}

/**
 * The name of a value that codec.json lacks, or has of another kind; null if all fit.
 *
 * @param {object} content of codec.json
 */
export function misfit(content) {
  let found = wrong(content, FORM, "");
  for (const layout of found === null ? content.layouts : []) {
    found ??= wrong(layout, Object.hasOwn(layout, "table") ? BY_TABLE : BY_NETWORKS, "layouts");
  }
  if (found === null && Object.hasOwn(content, "rates")) found = wrong(content.rates, RATES, "rates");
  if (found === null && content.scales.some((scale) => scale <= 0)) found = "scales";
  if (found === null && !content.layouts.length) found = "layouts";
  if (found === null && content.default >= content.decoders.length) found = "default";
  return found;
}
