"""Independent witnesses of a value and of a derivative, and how far rounding may move them.

    complex step        f'(x) = Im f(x + ih) / h, h = 1e-40: no difference is taken, so nothing is lost
    fifty digits        the printed code on numbers of 50 digits, which NumPy keeps as objects
    central differences (f(x + h) - f(x - h)) / 2h in fifty digits, h = 1e-15: knows nothing of complex numbers
    random rounding     the printed code on numbers of which every result is moved by up to half a unit of float32
"""

import functools

import numpy as np
import scipy.special

from tinydistill_reference.equation import is_floating

STEP = 1e-40


def total(upstream, values):
    """<u, y> over all outputs: the number whose gradient is asked for."""
    if isinstance(upstream, dict):
        return sum((values[name] * u).sum() for name, u in upstream.items())
    value, = values.values()
    return np.sum(value * upstream)


def along(f, inputs, names, directions, step=STEP):
    """The derivative of f(inputs) -> number along one direction for each of names, by one complex step."""
    moved = dict(inputs)
    for name, direction in zip(names, directions):
        moved[name] = inputs[name] + 1j * step * direction
    return np.imag(f(moved)) / step


def complex_step(f, inputs, name):
    """The derivative of f by every number of one input."""
    x = inputs[name]
    kind, step = (np.complex64, 1e-15) if x.dtype == np.float32 else (np.complex128, STEP)
    moved, found = x.astype(kind), np.zeros(x.shape, x.dtype)
    for place in np.ndindex(x.shape):
        moved[place] += kind(1j * step)
        found[place] = np.imag(f(inputs | {name: moved})) / step
        moved[place] = x[place]
    return found


class FiftyDigits:
    """Arrays of numbers of 50 digits: NumPy's functions call their methods."""

    def __init__(self):
        import mpmath
        self.context = mpmath.MPContext()
        self.context.dps = 50
        for name in ("exp", "log", "sqrt", "tanh", "erf", "sin", "cos"):
            function = getattr(self.context, name)
            setattr(self.context.mpf, name, lambda x, function=function: function(x))

    def array(self, x):
        return np.frompyfunc(self.context.mpf, 1, 1)(x) if is_floating(x) else x

    def inputs(self, inputs):
        return {name: np.asarray(self.array(x), object) if is_floating(x) else x for name, x in inputs.items()}

    @staticmethod
    def rounded(x):
        return np.asarray(x, object).astype(np.float64) if np.asarray(x).dtype == object else np.asarray(x)

    def differences(self, f, inputs, name, places):
        """The derivative of f by the numbers at these places."""
        h, found, moved = self.context.mpf(10) ** -15, [], inputs[name].copy()
        for place in places:
            x = moved[place]
            moved[place] = x + h
            above = f(inputs | {name: moved})
            moved[place] = x - h
            found.append((above - f(inputs | {name: moved})) / (2 * h))
            moved[place] = x
        return np.array([float(x) for x in found])


def rounding(seed):
    """Factors 1 + r, r random and at most half a unit of float32: thousands are drawn at once, for speed."""
    random = np.random.default_rng(seed)
    while True:
        yield from (1 + 2.0 ** -24 * random.uniform(-1, 1, 4096)).tolist()


@functools.total_ordering
class Uncertain:
    """A number of which every result is as uncertain as one of float32. No float, lest NumPy make it one."""

    __slots__ = ("x",)
    rounding = rounding(0)

    def __init__(self, x):
        self.x = float(x)

    @classmethod
    def array(cls, x):
        return np.asarray(np.frompyfunc(cls, 1, 1)(x), object) if is_floating(x) else x

    @property
    def real(self):
        return self

    def __float__(self):
        return self.x

    def __neg__(self):
        return Uncertain(-self.x)

    def __abs__(self):
        return Uncertain(abs(self.x))

    def __eq__(self, other):
        return self.x == float(other)

    def __lt__(self, other):
        return self.x < float(other)


def _operator(operation):
    def result(self, other):
        if isinstance(other, np.ndarray):
            return NotImplemented                   # the array takes its numbers one by one
        try:
            found = operation(self.x, other.x if other.__class__ is Uncertain else float(other))
        except (ZeroDivisionError, OverflowError):
            return Uncertain(np.nan)
        return Uncertain(found * next(Uncertain.rounding))
    return result


def _function(function):
    return lambda self: Uncertain(function(self.x) * next(Uncertain.rounding))


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "rpow"):
    setattr(Uncertain, f"__{_name}__", _operator(getattr(float, f"__{_name}__")))
for _name in ("exp", "log", "sqrt", "tanh", "sin", "cos"):
    setattr(Uncertain, _name, _function(getattr(np, _name)))
Uncertain.erf = _function(scipy.special.erf)


def nudged(inputs, random):
    """The same numbers, each moved by -1, 0 or 1 units of float32 in its last place. A 0 has none: it stays 0."""
    def move(x):
        return x + np.where(x == 0, 0, np.spacing(np.abs(x).astype(np.float32))) * random.integers(-1, 2, x.shape)
    return {name: move(x) if is_floating(x) else x for name, x in inputs.items()}
