"""Sums, products and moves: how they have been got wrong."""

import numpy as np

from tinydistill_reference.elementary import summed
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled

FORGETS = "weights of the loss have no effect"
ISSUES = "https://github.com/"


def _count(i, a):
    """The numbers of one sum."""
    return i["x"].size if a["axis"] is None else i["x"].shape[a["axis"]]


def _both(factor):
    return {"value": factor, "gradient": factor}


def _first(g, i, a, u):
    """The gradient of the first number of each sum, 0 for the others."""
    first, x = np.zeros_like(g["dx"]), g["dx"]
    place = (0,) * x.ndim if a["axis"] is None else (slice(None),) * (a["axis"] % x.ndim) + (0,)
    first[place] = x[place]
    return {"dx": first}


def _where_it_fits(y, right):
    return y if y.shape == right.shape else right


def _product(g, i, u, of_a, of_b):
    """Other gradients of a and b, where their shapes fit."""
    return {"da": of_a(u, i["b"]) if i["b"].shape[-1] == i["b"].shape[-2] else g["da"],
            "db": of_b(i["a"], u) if i["a"].shape[-1] == i["a"].shape[-2] else g["db"]}


def _first_batch(dy, x):
    """dy of the first of the axes along which x was repeated."""
    dy = dy[(0,) * (dy.ndim - x.ndim)]
    return dy[tuple(slice(0, 1) if size == 1 else slice(None) for size in x.shape[:-2])]


def _parts(u, i, a, moved=0):
    """The parts of dy, shifted along the axis."""
    ends = np.cumsum([i["first"].shape[a["axis"]], i["second"].shape[a["axis"]]])
    parts = np.split(np.roll(u, moved, axis=a["axis"]), ends, axis=a["axis"])
    return dict(zip(("dfirst", "dsecond", "dthird"), parts))


def _turned(x, axes):
    """The inverse order, where it fits."""
    return _where_it_fits(x.transpose(np.argsort(axes)), x.transpose(axes))


def _rows(i):
    return i["index"].ravel() % len(i["x"])


def _overwritten(g, i, a, u):
    """NumPy's dx[i] += dy, which adds to a row once."""
    dx = np.zeros_like(i["x"])
    dx[_rows(i)] += u.reshape(i["index"].size, -1)                                      # (N, D)
    return {"dx": dx}


def _forgets(name):
    return ignores_upstream(name, "ignores_upstream", "a backward that forgets the gradient from above", FORGETS,
                            "constructed")


S, M, P, C, K, R = "sum", "mean", "matmul", "concatenate", "take", "transpose"
TRAPS = (
    scaled(S, "mean_for_sum", "a mean in its place", "a loss depends on the size of the batch no longer", "constructed",
           **_both(lambda i, a: 1 / _count(i, a))),
    scaled(S, "bwd_divided", "dx = dy / n, as of a mean", "the gradient is too small", "constructed",
           gradient=lambda i, a: 1 / _count(i, a)),
    computes(S, "of_squares", "the squares are summed", "signs do not count", "constructed",
             lambda x, axis, keepdims: (x * x).sum(axis=axis, keepdims=keepdims)),
    derives(S, "bwd_first", "the first number of each sum gets the whole gradient", "the others do not learn",
            "constructed", _first),
    _forgets(S),
    scaled(M, "sum_for_mean", "a sum in its place", "the rate depends on how much is averaged", "constructed",
           **_both(_count)),
    scaled(M, "bwd_not_divided", "dx = dy, as of a sum", "the rate depends on how much is averaged", "constructed",
           gradient=_count),
    scaled(M, "divided_by_all", "the sum is divided by the size of the whole array",
           "a mean of tokens shrinks with the batch", "constructed", **_both(lambda i, a: _count(i, a) / i["x"].size)),
    scaled(M, "one_less", "the sum is divided by n - 1", "slightly too large", "constructed",
           **_both(lambda i, a: _count(i, a) / (_count(i, a) - 1))),
    derives(M, "bwd_first", "the first number of each mean gets the whole gradient", "the others do not learn",
            "constructed", _first),
    _forgets(M),
    derives(P, "bwd_not_transposed", "da = dy b and db = a dy where b and a are square",
            "found out by other sizes only", "constructed", lambda g, i, a, u: _product(
                g, i, u, lambda u, b: summed(u @ b, i["a"]), lambda a, u: summed(a @ u, i["b"]))),
    derives(P, "bwd_first", "of a matrix that is shared the first product's gradient is taken",
            "right for a batch of 1 only", "constructed", lambda g, i, a, u: {
                "da": _first_batch(u @ i["b"].swapaxes(-1, -2), i["a"]),
                "db": _first_batch(i["a"].swapaxes(-1, -2) @ u, i["b"])}),
    derives(P, "bwd_mean", "gradients of a matrix that is shared are averaged", "a weight hardly learns",
            ISSUES + "hunkim/DeepLearningZeroToAll/issues/173", lambda g, i, a, u: {
                f"d{n}": g[f"d{n}"] * np.prod(i[n].shape[:-2], dtype=int) / np.prod(u.shape[:-2], dtype=int)
                for n in "ab"}),
    derives(P, "bwd_no_b", "b counts as constant", "b does not learn", "constructed",
            lambda g, i, a, u: {"db": np.zeros_like(g["db"])}),
    _forgets(P),
    computes(C, "reversed", "the parts in the opposite order", "a linear map that follows reads the wrong numbers",
             "constructed", lambda first, second, third, axis: np.concatenate((third, second, first), axis=axis)),
    derives(C, "bwd_shifted", "the parts of dy begin one place too late", "each learns its neighbour's gradient",
            "constructed", lambda g, i, a, u: _parts(u, i, a, moved=-1)),
    derives(C, "bwd_divided", "each part of dy is divided by the number of parts", "the gradient is too small",
            "constructed", lambda g, i, a, u: {n: x / 3 for n, x in g.items()}),
    derives(C, "bwd_no_third", "the last part gets no gradient", "it does not learn", "constructed",
            lambda g, i, a, u: {"dthird": np.zeros_like(g["dthird"])}),
    _forgets(C),
    derives(K, "bwd_overwritten", "dx[i] += dy: of several readings of a row only one counts",
            "frequent rows hardly learn", ISSUES + "HIPS/autograd/issues/39", _overwritten),
    derives(K, "bwd_mean", "the sum over a row's readings is divided by their number",
            "frequent rows learn no faster than rare ones", "constructed", lambda g, i, a, u: {
                "dx": g["dx"] / np.maximum(np.bincount(_rows(i), minlength=len(i["x"])), 1)[:, None]}),
    reads(K, "shifted", "rows are counted from 1", "every index has its neighbour's row", "constructed",
          index=lambda i, a: (i["index"] + 1) % len(i["x"])),
    reads(K, "clipped", "an index below 0 is taken for 0", "-1 is the first row", "constructed",
          index=lambda i, a: np.maximum(i["index"], 0)),
    derives(K, "bwd_every_row", "rows that were not taken get a gradient, too", "rows that never occur drift",
            "constructed", lambda g, i, a, u: {"dx": g["dx"] + u.mean()}),
    _forgets(K),
    computes(R, "inverse", "the inverse order of the axes, where it fits", "found out by other sizes only",
             "constructed", _turned),
    computes(R, "reshaped", "a reshape to the right shape", "numbers of different heads and tokens are mixed",
             "constructed", lambda x, axes: x.reshape([x.shape[n] for n in axes])),
    derives(R, "bwd_same_axes", "the axes of dy move as those of x did, where that fits",
            "found out by other sizes only", "constructed",
            lambda g, i, a, u: {"dx": _where_it_fits(u.transpose(i["axes"]), g["dx"])}),
    derives(R, "bwd_reshaped", "dy is reshaped to the shape of x", "gradients of different tokens are mixed",
            "constructed", lambda g, i, a, u: {"dx": u.reshape(i["x"].shape)}),
    _forgets(R),
)
