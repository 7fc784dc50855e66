"""Q-BERT: cases. The sums: `qbert.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.numbers import exact
from tinydistill_reference.qbert import fake, fake_gradient

F, D = 6, 12


def between_levels(numbers, groups, bits, offset=0.0):
    """(F, D): in every group numbers within 0.4 steps of a level, and the lowest and the highest one on theirs."""
    n, found = 2 ** bits - 1, []
    for _ in range(groups):
        size = F // groups * D
        l, d = numbers.normal(1)[0] + offset, 0.25 * numbers.uniform(1)[0] + 0.01
        level = numbers.integers(0, n + 1, size) + 0.8 * numbers.uniform(size) - 0.4
        level = np.clip(level, 0, n)
        level[numbers.permutation(size)[:2]] = 0, n
        found.append((l + d * level).reshape(F // groups, D))
    return exact(np.concatenate(found))


def fake_cases(numbers):
    def case(id, comment, groups, bits, *, offset=0.0, x=None, **settings):
        x = between_levels(numbers, groups, bits, offset) if x is None else x
        return Case(id, comment, {"x": x}, {"groups": groups, "bits": bits}, upstream=numbers.normal(*x.shape),
                    min_dtype="float32", **settings)

    yield case("01-plain", "two groups of three rows, 16 levels", 2, 4)
    yield case("02-one", "one group", 1, 4)
    yield case("03-rows", "every row its own group", 6, 4)
    yield case("04-two", "4 levels", 3, 2)
    yield case("05-eight", "256 levels", 2, 8)
    yield case("06-above", "numbers around 5: none is near 0", 2, 4, offset=5.0)
    halves = np.concatenate([[0.0, 15.0], np.arange(15) + 0.5, [3.0]]).reshape(3, 6) / 8
    yield case("07-halves", "numbers in the middle of two levels", 2, 4, x=np.concatenate([halves, halves * 4]))
    some = between_levels(numbers, 3, 4)
    some[2:4] = 0.375
    yield case("08-constant", "a group of one number stays what it is", 3, 4, x=some)
    yield case("20-groups", "groups that do not divide the rows", 4, 4, x=numbers.normal(F, D), result="error",
               error="(?i)group|divi|shape")


EQUATIONS = (
    Equation("fake_quantise.qbert", "Shen et al. 2020", "section 3.2",
             "y = l + d round((x - l) / d), d = (h - l) / (2^bits - 1), "
             "l and h of each group of rows; dx = dy", fake, fake_gradient, {"x": "(F, D)"}, ("x",), fake_cases,
             {"groups": 2, "bits": 4}, {"paper": Convention({}, "Shen et al. 2020 (unverified)")}, ("y",), True),
)
