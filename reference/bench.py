"""Values of candidates, each computed once, the cheap ones first, as far as the time reaches.

The printed equations are explicit loops, so the cost of each is measured on the first sequence of the batch. Where the
whole batch takes long, a candidate is computed on two sequences first, and those that come near the number go on.
"""

import contextlib
import sys
import time
import warnings
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from tinydistill_reference.candidates import CONVENTION, axes
from tinydistill_reference.tolerance import C, UNITS, compare
from tinydistill_reference.witnesses import nudged

CHEAP = 0.5                                         # seconds of a value that nobody has to choose
SAMPLE = 2                                          # sequences
NEAR = 0.1                                          # of the logarithm: a sample that is worth mention
FAILS = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)


@dataclass
class Bench:
    """filled: {equation's name: Filled}; seconds: how long it may take.

    values {key: number} · refused {equation: why} · left_out {equation: [seconds of each value]} ·
    near {words: value on a sample} of what was left out.
    """

    filled: dict
    seconds: float
    values: dict = field(default_factory=dict)
    refused: dict = field(default_factory=dict)
    left_out: dict = field(default_factory=dict)
    near: dict = field(default_factory=dict)
    costs: dict = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self):
        """Seconds."""
        return self.seconds - (time.monotonic() - self.began)

    def evaluate(self, computation, filled=None):
        """Its value in float64; None where the equation refuses what it is given."""
        filled, e = filled or self.filled[computation.equation.name], computation.equation
        try:
            with quiet():
                value, = e.values(filled.at(computation.layers), computation.attrs, computation.settings).values()
            return float(np.real(value))
        except FAILS as problem:
            if computation.rank == CONVENTION:
                self.refused.setdefault(e.name, (str(problem) or type(problem).__name__).splitlines()[0])
            return None

    def cost(self, computation):
        """Seconds of one value of this equation."""
        name = computation.equation.name
        if name not in self.costs:
            first, batch = cut(self.filled[name], 1)
            began = time.perf_counter()
            self.evaluate(computation, first)
            self.refused.pop(name, None)            # of one sequence: the whole batch may do
            self.costs[name] = (time.perf_counter() - began) * batch
        return self.costs[name]

    def compute(self, chosen, targets):
        """Values of the computations, for targets [(number, dtype)]: all cheap ones, then dear ones, the nearest first.

        It stops where every target has a value that is equal to it.
        """
        chosen = list({c.key: c for c in chosen if c.key not in self.values}.values())
        cheap = sorted((c for c in chosen if self.cost(c) <= CHEAP), key=self.cost)
        dear, open_ = self._nearest_first([c for c in chosen if self.cost(c) > CHEAP], targets), list(targets)
        with tqdm(total=len(chosen), file=sys.stderr, delay=1, leave=False, unit="value") as bar:
            for c in cheap + dear:
                bar.set_postfix_str(c.equation.name, refresh=False)
                if self.cost(c) > CHEAP and (not open_ or self.cost(c) > self.left) or self.left < 0:
                    self.left_out.setdefault(c.equation.name, []).append(self.cost(c))
                elif (value := self.evaluate(c)) is not None:
                    self.values[c.key] = value
                    self.near.pop(c.words, None)
                    open_ = [(got, dtype) for got, dtype in open_ if off(got, value, 4 * abs(value), dtype) > 1]
                bar.update()

    def _nearest_first(self, dear, targets):
        """By how near they come on a few sequences, conventions before other readings; half of the time is for that."""
        place, count = {}, {}
        for c in dear:                              # the first of every equation, then the second of every one
            count[c.equation.name] = place[c.key] = count.get(c.equation.name, -1) + 1
        order = sorted(dear, key=lambda c: (c.rank, place[c.key]))
        return sorted(order, key=lambda c: (round(self._distance(c, targets), 6), c.rank))

    def _distance(self, computation, targets):
        """How far from the targets it is on a few sequences, as a logarithm."""
        few, batch = cut(self.filled[computation.equation.name], SAMPLE)
        if self.left < self.seconds / 2 or batch <= SAMPLE:
            return np.inf
        value = self.evaluate(computation, few)
        if not value:
            return np.inf
        scales = (1.0, batch / SAMPLE)              # of a mean over sequences, and of a sum
        found = min((abs(np.log(abs(value * scale / t))) for t, _ in targets if t for scale in scales), default=np.inf)
        if found <= NEAR:
            self.near[computation.words] = value
        return found

    # ------------------------------------------------------------ Totals

    def of(self, total):
        """The value of a Total, or None where a part has none."""
        found = [self.values.get(part.key) for part in total.parts]
        return None if None in found else float(np.dot(total.weights, found))

    def seconds_of(self, total):
        return sum(self.cost(part) for part in total.parts)

    def kappa(self, total, value):
        """4 |value|; or how far it moves when all inputs move by a unit of float32, in these units."""
        moved, random = 4 * abs(value), np.random.default_rng(0)
        for _ in range(4 if 4 * self.seconds_of(total) < max(CHEAP, self.left) else 0):
            found = 0.0
            for part, weight in zip(total.parts, total.weights):
                filled = self.filled[part.equation.name]
                there = self.evaluate(part, replace(filled, inputs=nudged(filled.inputs, random)))
                found += weight * (np.nan if there is None else there)
            moved = np.fmax(moved, abs(found - value) * 2.0 ** 24)
        return float(moved)

    def units(self, total, got, dtype):
        """|got - value| in units of what is allowed; infinite where there is no value."""
        value = self.of(total)
        if value is None or not np.isfinite(value):
            return np.inf
        units = off(got, value, 4 * abs(value), dtype)
        near = abs(got - value) <= 1e-3 * max(abs(got), abs(value)) + C * UNITS[dtype]
        return off(got, value, self.kappa(total, value), dtype) if units > 1 and near else units

    def gradients(self, total, upstream, like, random=None):
        """{input: gradient} of a Total, in the shapes of `like` {input: array}, for those that it reads.

        That of the teacher is 0. random: of inputs that are moved by a unit of float32.
        """
        found = {}
        for part, weight in zip(total.parts, total.weights):
            filled, e = self.filled[part.equation.name], part.equation
            if random is not None:
                filled = replace(filled, inputs=nudged(filled.inputs, random))
            with quiet():
                here = e.gradients(weight * upstream, filled.at(part.layers), part.attrs, part.settings)
            for name in like.keys() & filled.inputs.keys():
                whole = found.setdefault(name, np.zeros(filled.inputs[name].shape))
                whole[filled.index(name, part.layers)] += here.get(f"d{name}", 0.0)
        return {name: x.reshape(like[name].shape) if x.size == like[name].size else x for name, x in found.items()}


@contextlib.contextmanager
def quiet():
    """Without NumPy's warnings: inputs may be anything."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def cut(filled, count):
    """(the same of the first sequences, how many there are)."""
    inputs, batch = {}, 1
    for name, x in filled.inputs.items():
        letters = ["layers"] * (name in filled.layered) + axes(filled.equation, name)
        if rows := {"B", "N", "M"} & set(letters):
            axis = letters.index(min(rows))
            batch, x = x.shape[axis], x[(slice(None),) * axis + (slice(count),)]
        inputs[name] = x
    return replace(filled, inputs=inputs), batch


def off(got, value, kappa, dtype):
    """|got - value| in units of what is allowed."""
    return compare("value", np.float64(got), np.float64(value), kappa, dtype).error


def precision(saved, inputs):
    """The dtype to whose rounding a saved array is judged: its own, or that of the numbers in it and in the inputs.

    The loss of a run in float32 is often saved as a Python float, or as a sum of such numbers.
    """
    for dtype in ("bfloat16", "float16"):
        if saved.dtype.name == dtype or all(_holds(dtype, x) for x in (saved, *inputs)):
            return dtype
    return "float32" if _holds("float32", saved) or all(_holds("float32", x) for x in inputs) else "float64"


def _holds(dtype, x):
    """Whether all these numbers are numbers of the dtype, as far as its digits go."""
    x = np.asarray(x, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = x.astype(np.float32 if dtype == "bfloat16" else dtype)
    if dtype == "bfloat16" and (rounded.view(np.uint32) & 0xFFFF).any():
        return False
    return bool(((rounded == x) | np.isnan(x)).all())
