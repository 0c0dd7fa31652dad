// The Gaussians that y is coded under, as constriction 0.5 computes them: bit for bit, or no file decodes.

// The coder's probabilities are integer multiples of 2^-24.
export const PRECISION = 24;
export const WHOLE = 2 ** PRECISION;

// Coefficients of FreeBSD's msun, s_erf.c and e_exp.c (Sun Microsystems, 1993 and 2004; freely usable with this
// notice), which Rust's libm computes with: lowest power first. What is after a slash divides.
const NEAR_ZERO = [
  [1.28379167095512558561e-1, -3.25042107247001499370e-1, -2.84817495755985104766e-2,
    -5.77027029648944159157e-3, -2.37630166566501626084e-5],
  [1, 3.97917223959155352819e-1, 6.50222499887672944485e-2, 5.08130628187576562776e-3,
    1.32494738004321644526e-4, -3.96022827877536812320e-6],
]; // |x| < 0.84375
const ERF_OF_1 = 8.45062911510467529297e-1;
const NEAR_ONE = [
  [-2.36211856075265944077e-3, 4.14856118683748331666e-1, -3.72207876035701323847e-1,
    3.18346619901161753674e-1, -1.10894694282396677476e-1, 3.54783043256182359371e-2,
    -2.16637559486879084300e-3],
  [1, 1.06420880400844228286e-1, 5.40397917702171048937e-1, 7.18286544141962662868e-2,
    1.26171219808761642112e-1, 1.36370839120290507362e-2, 1.19844998467991074170e-2],
]; // |x| < 1.25
const MIDDLE = [
  [-9.86494403484714822705e-3, -6.93858572707181764372e-1, -1.05586262253232909814e1,
    -6.23753324503260060396e1, -1.62396669462573470355e2, -1.84605092906711035994e2,
    -8.12874355063065934246e1, -9.81432934416914548592],
  [1, 1.96512716674392571292e1, 1.37657754143519042600e2, 4.34565877475229228821e2,
    6.45387271733267880336e2, 4.29008140027567833386e2, 1.08635005541779435134e2,
    6.57024977031928170135, -6.04244152148580987438e-2],
]; // |x| < 1 / 0.35
const FAR = [
  [-9.86494292470009928597e-3, -7.99283237680523006574e-1, -1.77579549177547519889e1,
    -1.60636384855821916062e2, -6.37566443368389627722e2, -1.02509513161107724954e3,
    -4.83519191608651397019e2],
  [1, 3.03380607434824582924e1, 3.25792512996573918826e2, 1.53672958608443695994e3,
    3.19985821950859553908e3, 2.55305040643316442583e3, 4.74528541206955367215e2,
    -2.24409524465858183362e1],
]; // |x| < 6
const EXP = [0, 1.66666666666666019037e-1, -2.77777777770155933842e-3, 6.61375632143793436117e-5,
  -1.65339022054652515390e-6, 4.13813679705723846039e-8];
const LN2_HIGH = 6.93147180369123816490e-1;
const LN2_LOW = 1.90821492927058770002e-10;
const ONE_OVER_LN2 = 1.44269504088896338700;

const bits = new DataView(new ArrayBuffer(8));

function highWord(x) {
  bits.setFloat64(0, x);
  return bits.getUint32(0) & 0x7fffffff;
}

function withoutLowWord(x) {
  bits.setFloat64(0, x);
  bits.setUint32(4, 0);
  return bits.getFloat64(0);
}

function polynomial(coefficients, x) {
  let sum = coefficients[coefficients.length - 1];
  for (let power = coefficients.length - 2; power >= 0; power--) sum = coefficients[power] + x * sum;
  return sum;
}

const ratio = ([above, below], x) => polynomial(above, x) / polynomial(below, x);

/** e^x for x from -700 to 700. */
export function exp(x) {
  const size = highWord(x);
  let power = 0;
  let high = x;
  let low = 0;
  if (size > 0x3fd62e42) { // beyond half of ln 2
    if (size < 0x3ff0a2b2) power = x < 0 ? -1 : 1;
    else power = Math.trunc(ONE_OVER_LN2 * x + (x < 0 ? -0.5 : 0.5));
    high = x - power * LN2_HIGH;
    low = power * LN2_LOW;
  } else if (size <= 0x3e300000) {
    return 1 + x;
  }
  const rest = high - low;
  const square = rest * rest;
  const c = rest - polynomial(EXP, square);
  return (1 + (rest * c / (2 - c) - low + high)) * 2 ** power;
}

/** The error function. */
export function erf(x) {
  const size = highWord(x);
  if (size < 0x3feb0000) {
    if (size < 0x3e300000) return 0.125 * (8 * x + 1.02703333676410069053 * x);
    return x + x * ratio(NEAR_ZERO, x * x);
  }
  const y = size < 0x40180000 ? 1 - tail(size, Math.abs(x)) : 1;
  return x < 0 ? -y : y;
}

function tail(size, x) { // 1 - erf(x), for x of at least 0.84375
  if (size < 0x3ff40000) return 1 - ERF_OF_1 - ratio(NEAR_ONE, x - 1);
  const s = 1 / (x * x);
  const part = ratio(size < 0x4006db6d ? MIDDLE : FAR, s);
  const z = withoutLowWord(x);
  return exp(-z * z - 0.5625) * exp((z - x) * (z + x) + part) / x;
}

const UNKNOWN = -1;

/**
 * Gaussians of given scales over the integers within +-limit, means in parts of a whole.
 *
 * Every boundary between two numbers lies an integer number of parts from the mean, so its cumulative is computed
 * once for each scale and distance.
 */
export class Gaussians {
  /** @param {number[]} scales one per level @param {number} parts that a whole has @param {number} limit */
  constructor(scales, parts, limit) {
    this.limit = Math.max(1, limit);
    this.parts = parts;
    this.free = WHOLE - 1 - 2 * this.limit; // what is shared out: every number has one unit of its own
    this.scales = scales;
    this.tables = scales.map((scale) => {
      const reach = Math.ceil(6 * Math.SQRT2 * scale * parts); // beyond it, the error function is 1
      return new Int32Array(2 * reach + 1).fill(UNKNOWN);
    });
  }

  /** The cumulative of the boundary below `number`, in units of 2^-24. */
  left(level, mean, number) {
    if (number <= -this.limit) return 0;
    if (number > this.limit) return WHOLE;
    const table = this.tables[level];
    const reach = (table.length - 1) / 2;
    const distance = this.parts * number - this.parts / 2 - mean;
    const slack = number + this.limit;
    if (distance >= reach) return this.free + slack;
    if (distance <= -reach) return slack;
    let found = table[reach + distance];
    if (found === UNKNOWN) {
      const below = (1 + erf(distance / this.parts / (this.scales[level] * Math.SQRT2))) / 2;
      found = table[reach + distance] = Math.floor(this.free * below);
    }
    return found + slack;
  }

  /** Read the next number from a coder, under the Gaussian of a level and of a mean in parts. */
  read(coder, level, mean) {
    const quantile = coder.quantile();
    let low = Math.max(-this.limit, Math.min(this.limit, Math.round(mean / this.parts)));
    let high = low + 1;
    let left = this.left(level, mean, low);
    let right = left;
    if (left <= quantile) {
      right = this.left(level, mean, high);
      for (let step = 2; right <= quantile; step *= 2) {
        low = high;
        left = right;
        high = Math.min(this.limit + 1, low + step);
        right = this.left(level, mean, high);
      }
    } else {
      for (let step = 1; left > quantile; step *= 2) {
        high = low;
        right = left;
        low = Math.max(-this.limit, high - step);
        left = this.left(level, mean, low);
      }
    }
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      const between = this.left(level, mean, middle);
      if (between <= quantile) {
        low = middle;
        left = between;
      } else {
        high = middle;
        right = between;
      }
    }
    coder.take(left, right - left);
    return low;
  }
}

/** The level of a scale: how many bounds are smaller. */
export function levelOf(bounds, units) {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (bounds[middle] < units) low = middle + 1;
    else high = middle;
  }
  return low;
}
