"""The error function as the entropy coder computes it, bit for bit and on every machine.

Its operations are those of FreeBSD's msun, which round alike everywhere. `docs/viewer/gaussian.js` has the
same.
"""

from __future__ import annotations

import numpy as np

from nas.support.arrays import Floats

# Coefficients of FreeBSD's msun, s_erf.c and e_exp.c (Sun Microsystems, 1993 and 2004; freely usable with
# this notice), which the coder computes with: lowest power first, above and below the fraction line.
_NEAR_ZERO = (
    (
        *(1.28379167095512558561e-1, -3.25042107247001499370e-1, -2.84817495755985104766e-2),
        *(-5.77027029648944159157e-3, -2.37630166566501626084e-5),
    ),
    (
        *(1.0, 3.97917223959155352819e-1, 6.50222499887672944485e-2, 5.08130628187576562776e-3),
        *(1.32494738004321644526e-4, -3.96022827877536812320e-6),
    ),
)  # |x| < 0.84375
_ERF_OF_1 = 8.45062911510467529297e-1
_NEAR_ONE = (
    (
        *(-2.36211856075265944077e-3, 4.14856118683748331666e-1, -3.72207876035701323847e-1),
        *(3.18346619901161753674e-1, -1.10894694282396677476e-1, 3.54783043256182359371e-2),
        -2.16637559486879084300e-3,
    ),
    (
        *(1.0, 1.06420880400844228286e-1, 5.40397917702171048937e-1, 7.18286544141962662868e-2),
        *(1.26171219808761642112e-1, 1.36370839120290507362e-2, 1.19844998467991074170e-2),
    ),
)  # |x| < 1.25
_MIDDLE = (
    (
        *(-9.86494403484714822705e-3, -6.93858572707181764372e-1, -1.05586262253232909814e1),
        *(-6.23753324503260060396e1, -1.62396669462573470355e2, -1.84605092906711035994e2),
        *(-8.12874355063065934246e1, -9.81432934416914548592),
    ),
    (
        *(1.0, 1.96512716674392571292e1, 1.37657754143519042600e2, 4.34565877475229228821e2),
        *(6.45387271733267880336e2, 4.29008140027567833386e2, 1.08635005541779435134e2),
        *(6.57024977031928170135, -6.04244152148580987438e-2),
    ),
)  # |x| < 2.857...
_FAR = (
    (
        *(-9.86494292470009928597e-3, -7.99283237680523006574e-1, -1.77579549177547519889e1),
        *(-1.60636384855821916062e2, -6.37566443368389627722e2, -1.02509513161107724954e3),
        -4.83519191608651397019e2,
    ),
    (
        *(1.0, 3.03380607434824582924e1, 3.25792512996573918826e2, 1.53672958608443695994e3),
        *(3.19985821950859553908e3, 2.55305040643316442583e3, 4.74528541206955367215e2),
        -2.24409524465858183362e1,
    ),
)  # |x| < 6
_EXP = (
    *(0.0, 1.66666666666666019037e-1, -2.77777777770155933842e-3, 6.61375632143793436117e-5),
    *(-1.65339022054652515390e-6, 4.13813679705723846039e-8),
)
_LN2_HIGH, _LN2_LOW, _ONE_OVER_LN2 = (
    6.93147180369123816490e-1,
    1.90821492927058770002e-10,
    1.44269504088896338700,
)


def erf(x: Floats) -> Floats:
    """The error function of non-negative numbers, bit for bit as the coder computes it.

    Args:
        x: numbers of at least 0, of any shape.
    """
    out = np.ones_like(x)
    ends = np.searchsorted((0.84375, 1.25, 2.8571414947509766, 6.0), x, side="right")
    near, one, middle, far = (x[ends == place] for place in range(4))
    tiny = 0.125 * (8 * near + 1.02703333676410069053 * near)
    out[ends == 0] = np.where(near < 2.0**-28, tiny, near + near * _ratio(_NEAR_ZERO, near * near))
    out[ends == 1] = 1 - (1 - _ERF_OF_1 - _ratio(_NEAR_ONE, one - 1))
    out[ends == 2] = 1 - _tail(_MIDDLE, middle)
    out[ends == 3] = 1 - _tail(_FAR, far)
    return out


def _tail(fraction: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    z = (x.view(np.uint64) & np.uint64(0xFFFFFFFF00000000)).view(np.float64)
    tail: Floats = _exp(-z * z - 0.5625) * _exp((z - x) * (z + x) + _ratio(fraction, 1 / (x * x))) / x
    return tail


def _exp(x: Floats) -> Floats:
    """e^x."""
    size = np.abs(x)
    whole = np.trunc(_ONE_OVER_LN2 * x + np.where(x < 0, -0.5, 0.5))
    power = np.where(size < 1.0397205352783203, np.sign(x), whole)
    power = np.where(size < 0.3465735912322998, 0.0, power)
    high, low = x - power * _LN2_HIGH, power * _LN2_LOW
    rest = high - low
    c = rest - _polynomial(_EXP, rest * rest)
    scaled = np.ldexp(1 + (rest * c / (2 - c) - low + high), power.astype(np.int32))
    return np.where(size < 3.725293851175593e-09, 1 + x, scaled)


def _ratio(fraction: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    above, below = (_polynomial(coefficients, x) for coefficients in fraction)
    return above / below


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = coefficient + x * total
    return total
