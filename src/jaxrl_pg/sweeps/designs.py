"""Points in the unit cube at which a sweep samples its hyper-parameters: random, or Sobol's.

Written here and not taken from scipy, which would be a dependency of every installation for one
function: Sobol's sequence is a table of ten rows and a dozen lines.
"""

from __future__ import annotations

import random

__all__ = ["MAX_SOBOL_COLUMNS", "METHODS", "draw"]

METHODS = ("random", "sobol")

# Joe and Kuo (2008), file new-joe-kuo-6.21201, one dimension a row: the degree of the primitive
# polynomial, its inner bits, and the first direction numbers.
_JOE_KUO: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (0, 0, (1,) * 32),
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
)
MAX_SOBOL_COLUMNS = len(_JOE_KUO)


def draw(method: str, num: int, column: int, seed: int) -> list[float]:
    """Draw one column of a design of `num` points in [0, 1].

    random: independent and uniform. sobol: the Sobol sequence with the direction numbers of Joe
    and Kuo (2008), every column XORed with a random number of its own (a digital shift), so that
    the first point is not the corner and the net keeps its balance: of `2^k` points, one lies in
    each of the `2^k` equal parts of [0, 1].

    A column depends on nothing but the four arguments, and on no library's generator.

    Args:
        method: "random" or "sobol".
        num: number of points; a power of two keeps Sobol's balance.
        column: which column, from 0; there are `MAX_SOBOL_COLUMNS` of them for sobol.
        seed: seed of the design.
    """
    rng = random.Random(f"{seed}/{column}")
    if method == "random":
        return [rng.random() for _ in range(num)]
    shift = int(rng.random() * 2**32)
    return [(x ^ shift) / 2**32 for x in _sobol(num, column)]


def _sobol(num: int, column: int) -> list[int]:
    """Return the first points of one dimension, times 2^32, in the order of the Gray code.

    With degree s and inner bits a of the primitive polynomial (Bratley and Fox 1988, equation 3):
    m_k = 2 a_1 m_{k-1} ^ ... ^ 2^{s-1} a_{s-1} m_{k-s+1} ^ 2^s m_{k-s} ^ m_{k-s}.
    """
    degree, inner, first = _JOE_KUO[column]
    m = list(first)
    while len(m) < 32:
        new = m[-degree] ^ (m[-degree] << degree)
        for i in range(1, degree):
            new ^= (m[-i] << i) * ((inner >> (degree - 1 - i)) & 1)
        m.append(new)
    directions = [number << (31 - k) for k, number in enumerate(m)]
    points = [0]
    for n in range(1, num):
        points.append(points[-1] ^ directions[(n & -n).bit_length() - 1])
    return points
