"""Lines 3 to 9 of Algorithm 1 for one pseudo mask, in plain Python on y = q / 255."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


def plain_verdict(q: NDArray[np.uint8], alpha: float, beta: float, soft: bool) -> tuple[int, float, str]:
    """N, E in bits, and the rule that excludes the picture ("" when it stays)."""
    levels = q.ravel().tolist()
    targets = sum(Fraction(level, 255) > Fraction(1, 2) for level in levels)
    shares = [count / len(levels) for count in Counter(levels).values()]
    bits = sum(share * math.log2(1 / share) for share in shares)
    if targets < alpha:
        return targets, bits, "few_targets"
    return targets, bits, "high_entropy" if soft and bits > beta else ""
