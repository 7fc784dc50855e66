"""Is a pullback the derivative of its forward? Two scalars say so: <u, J v> for a random upstream u and direction v.

The pullback gives <J^T u, v>. The forward alone gives <u, J v> by central differences, and exactly, as
Im <u, f(x + i h v)> / h with h = 1e-30, where f takes complex arrays and is holomorphic. NumPy's `var` and `abs` are
not: their complex step drops a term, just as a wrong pullback does. So it counts only where the differences confirm it.
u is never ones: rows of a softmax sum to 1, and a gradient checked with ones passes for any wrong pullback.

Tolerances come from the arithmetic: C = 32 units of rounding times the size of what was summed, plus C times what is
measured of the scalar's conditioning: how far it moves when every input moves by one unit in its last place, and how
far the same pullback is off in float32, over 2^29. Bad conditioning is within them; a bug is not.
"""

import warnings

import numpy as np

from tinydistill import kernels
from tinydistill.tensor import RowSparse, Tensor, gradients
from tinydistill.tensor import op as engine_op

C = 32
UNIT = 2.0 ** -53                                   # the largest relative rounding error of float64
STEP = 1e-30                                        # of the complex step: its square is no number beside 1
TINY = 1e-30                                        # a derivative this small is none: where a softmax has saturated
TOO_COARSE = 1e-6                                   # a check that would let this relative error pass is none


class CannotJudge(AssertionError):
    """At this point no forward tells a right pullback from a wrong one: a kink, or 12 digits lost to conditioning."""


@engine_op
def inner(*parts, upstream):
    """<u, y> over all outputs of an op."""
    return sum((y * u).sum() for y, u in zip(parts, upstream)), lambda dy: tuple(dy * u for u in upstream)


def is_floating(array):
    return np.issubdtype(array.dtype, np.floating)


def value_and_gradients(op, arrays, rng_or_upstream, **settings):
    """(outputs, gradients, upstream) of op: a random upstream gradient is drawn unless one is given.

    Gradients are dense arrays, or None, one for each floating array and in their order.
    """
    tensors = [Tensor(a, requires_grad=True) if is_floating(a) else a for a in arrays]
    outputs = op(*tensors, **settings)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    upstream = rng_or_upstream
    if isinstance(upstream, np.random.Generator):
        upstream = [rng_or_upstream.standard_normal(y.shape).astype(y.dtype) for y in outputs]
    found = gradients(inner(*outputs, upstream=upstream), [t for t in tensors if isinstance(t, Tensor)])
    found = [g.dense() if isinstance(g, RowSparse) else g for g in found]
    return [y.array for y in outputs], found, upstream


def check(op, inputs, rng, *, without_gradient=(), **settings):
    """Fail unless op's pullback is its derivative, in float64, for every floating input; returns what judged each.

    `without_gradient` are the places of inputs that by declaration get none (a teacher's logits): None is demanded.
    """
    inputs = [x.astype(np.float64) if is_floating(x) else x for x in map(np.asarray, inputs)]
    floating = [i for i, x in enumerate(inputs) if is_floating(x)]
    outputs, found, upstream = value_and_gradients(op, inputs, rng, **settings)
    size = sum(np.abs(y * u).sum() for y, u in zip(outputs, upstream))
    assert np.isfinite(size), f"{op.__name__}: the value is not finite, so it has no derivative to check"
    nudged = [_nudge(inputs, upstream, rng, np.float64) for _ in range(4)]
    with np.errstate(all="ignore"):
        narrow = [value_and_gradients(op, *_nudge(inputs, upstream, rng, np.float32), **settings)[1] for _ in range(4)]
    judges = []
    for place, i in enumerate(floating):
        name, x, dx = f"{op.__name__}, input {i}", inputs[i], found[place]
        if i in without_gradient:
            assert dx is None, f"{name}: need no gradient, got one"
            continue
        dx = np.zeros_like(x) if dx is None else dx
        assert (dx.shape, dx.dtype) == (x.shape, x.dtype), f"{name}: {x.shape} has a gradient {dx.dtype} {dx.shape}"
        v = rng.standard_normal(x.shape) * (np.abs(x).max(initial=0) or 1.0)

        def along(t, arrays, weights):
            """<u, f(x + t v)>: complex where t is."""
            moved = [Tensor(a + t * v if j == i else a) if j in floating else a for j, a in enumerate(arrays)]
            value = op(*moved, **settings)
            return inner(*value if isinstance(value, tuple) else (value,), upstream=weights).array

        claimed, summed = (dx * v).sum(), np.abs(dx * v).sum()
        with np.errstate(all="ignore"):
            off = [0.0 if d[place] is None else abs((d[place] * v).sum() - claimed) for d in narrow]
        wobble = 2.0 ** -29 * max(x for x in off + [0.0] if np.isfinite(x))
        how, (measured, error) = "central differences", _central_differences(lambda t: along(t, inputs, upstream), size)
        exact = _complex_step(along, inputs, upstream)
        if exact is not None and abs(exact - measured) <= error <= 1e-3 * (abs(exact) + size):
            how, measured, error = "complex step", exact, 0.0
            wobble = max(wobble, *(abs(_complex_step(along, a, w) - exact) for a, w in nudged))
        judges.append(how)
        uncertain, scale = error + C * wobble, summed + abs(measured)
        floor = max(1.0, np.abs(v).max(initial=0)) * (UNIT * size + TINY * sum(np.abs(u).sum() for u in upstream))
        allowed = uncertain + C * (UNIT * scale + floor)
        if not uncertain <= TOO_COARSE * (scale + size) + floor:
            raise CannotJudge(f"{name}: {how} can only tell errors above {uncertain:.1e} here; need a smoother point")
        assert abs(claimed - measured) <= allowed, \
            f"{name}: pullback says {claimed:.15g}, {how} {measured:.15g}; allowed {allowed:.1e}"
    return judges


def _nudge(inputs, upstream, rng, dtype):
    """The same numbers as dtype, each moved by -1, 0 or 1 units in its last place."""
    def move(x):
        if not is_floating(x):
            return x
        x = x.astype(dtype)
        return x + np.spacing(np.abs(x)) * rng.integers(-1, 2, x.shape).astype(dtype)
    return [move(x) for x in inputs], [move(u) for u in upstream]


def _complex_step(along, inputs, upstream):
    """Im <u, f(x + i h v)> / h by the plain kernels, or None where f does not take complex arrays."""
    with warnings.catch_warnings(), np.errstate(all="ignore"), kernels.use("plain"):
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        try:
            return along(1j * STEP, inputs, upstream).imag / STEP
        except (TypeError, ValueError, np.exceptions.ComplexWarning):
            return None


def _central_differences(along, size):
    """(derivative, bound of its error) from four points, at the best step h out of 2^-3 ... 2^-40.

    D(h) = (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h is off by h^4 f'''''/30: D(2h) by 16 times as much, so that
    |D(h) - D(2h)| is 15 times the error. Noise in each value of f adds 18 noise / 12h; it is read from the shortest
    steps, where f(h) - f(-h) must halve with h. The best step is that of the least bound, unless a shorter one
    contradicts it: steps longer than f's own scale agree on nonsense.
    """
    steps = 2.0 ** -np.arange(2, 41)
    with np.errstate(all="ignore"):                 # steps too long for f may overflow: never the best ones
        odd = np.array([along(h) - along(-h) for h in steps])
        noise = C * UNIT * size + 4 * np.abs(odd[-8:] - odd[-9:-1] / 2).max()
        estimates = (8 * odd[1:] - odd[:-1]) / (12 * steps[1:])
        bounds = np.abs(np.diff(estimates)) + 1.5 * noise / steps[2:]
    estimates = estimates[1:]
    for k in np.argsort(bounds):                    # NaN comes last
        if (np.abs(estimates[k + 1:] - estimates[k]) <= bounds[k] + bounds[k + 1:]).all():
            return estimates[k], bounds[k]


# ---------------------------------------------------------------- how far from the truth a result may be

def kappa(function, inputs, reference, seed=0):
    """The size of one unit of error for each output: what float32 and the conditioning make unavoidable, over 2^-24.

    The largest of 4 max|reference| and of |witness - reference| / 2^-24 for 9 witnesses: `function` in float32, and 8
    times in float64 with every input moved by at most one unit in its last float32 place. `function(*inputs)` computes
    in the dtype of its inputs and returns one array for each of `reference`, the float64 truth.
    """
    rng = np.random.default_rng(seed)

    def moved(x):
        ulp = np.spacing(np.abs(x).astype(np.float32)).astype(np.float64)
        return x + ulp * rng.uniform(-1, 1, x.shape)

    with np.errstate(all="ignore"):
        witnesses = [function(*[x.astype(np.float32) if is_floating(x) else x for x in inputs])]
    wide = [x.astype(np.float64) if is_floating(x) else x for x in inputs]
    witnesses += [function(*[moved(x) if is_floating(x) else x for x in wide]) for _ in range(8)]
    return [max(4 * _largest(ref), *(_largest(w[k] - ref) / 2.0 ** -24 for w in witnesses))
            for k, ref in enumerate(reference)]


def _largest(x):
    """max |x| over its finite entries."""
    x = np.abs(np.asarray(x, np.float64))
    return x[np.isfinite(x)].max(initial=0.0)


def assert_within(got, reference, allowed, name="result"):
    """Same shape, same infinities, and no entry further than `allowed` from the reference."""
    got, reference = np.asarray(got), np.asarray(reference)
    assert got.shape == reference.shape, f"{name}: need shape {reference.shape}, got {got.shape}"
    finite = np.isfinite(reference)
    np.testing.assert_array_equal(got[~finite], reference[~finite], err_msg=name)
    error = np.zeros(got.shape)
    error[finite] = np.abs(got[finite].astype(np.float64) - reference[finite])
    worst = np.unravel_index(np.argmax(np.nan_to_num(error, nan=np.inf)), error.shape) if error.size else None
    assert not error.size or error[worst] <= allowed, \
        f"{name}: at {tuple(map(int, worst))} got {got[worst]}, need {reference[worst]}: " \
        f"off by {error[worst]:.2e}, allowed {allowed:.2e}"


def assert_close64(got, reference, name="result"):
    """float64 against an oracle: 1e-10 of the largest entry; an all-zero reference means exactly zero."""
    assert_within(got, reference, 1e-10 * _largest(reference), name)


def assert_close32(got, reference, kappa, name="result"):
    """float32 against the float64 truth: C units of 2^-24 kappa."""
    assert got.dtype == np.float32, f"{name}: need float32 to stay float32, got {got.dtype}"
    assert_within(got, reference, C * 2.0 ** -24 * kappa, name)
