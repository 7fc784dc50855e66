"""Arithmetic element by element: how it has been got wrong."""

import numpy as np

from tinydistill_reference import elementary
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled, sets

ISSUES = "https://github.com/"
FORGETS = "weights of the loss have no effect"


def _whole(name, i, u):
    """The gradients of a and b before they are summed over what was repeated."""
    a, b = np.broadcast_arrays(i["a"], i["b"])
    return getattr(elementary, f"{name}_gradient")(u, a, b)


def _first(dy, x):
    """dy at the first place of every axis along which x was repeated."""
    dy = dy[(0,) * (dy.ndim - x.ndim)]
    return dy[tuple(slice(0, 1) if size == 1 else slice(None) for size in x.shape)]


def _binary(name):
    """What goes wrong alike."""
    return (
        derives(name, "bwd_mean", "gradients are averaged over the axes that were repeated",
                "a bias hardly learns", "constructed",
                lambda g, i, a, u: {f"d{n}": g[f"d{n}"] * i[n].size / u.size for n in "ab"}),
        derives(name, "bwd_first", "of what was repeated the first place's gradient is taken",
                "right for a batch of 1 only", "constructed",
                lambda g, i, a, u: {f"d{n}": _first(_whole(name, i, u)[n], i[n]) for n in "ab"}),
        derives(name, "bwd_no_b", "b counts as constant", "b does not learn", "constructed",
                lambda g, i, a, u: {"db": np.zeros_like(g["db"])}),
        ignores_upstream(name, "ignores_upstream", "a backward that forgets the gradient from above", FORGETS,
                         "constructed"),
    )


def _slope(name, flag, bug, effect, slope, source="constructed"):
    """Another derivative: dx = dy slope(x)."""
    return derives(name, flag, bug, effect, source, lambda g, i, a, u: {"dx": u * slope(i["x"])})


def _unary(name):
    return ignores_upstream(name, "ignores_upstream", "a backward that forgets the gradient from above", FORGETS,
                            "constructed")


TRAPS = (
    *_binary("add"),
    computes("add", "average", "the mean of both", "a residual sum is half as large", "constructed",
             lambda a, b: (a + b) / 2),
    *_binary("subtract"),
    computes("subtract", "swapped", "b - a", "the sign of everything above is wrong", "constructed",
             lambda a, b: b - a),
    derives("subtract", "bwd_sign", "db = dy, as of a sum", "b learns the opposite", "constructed",
            lambda g, i, a, u: {"db": -g["db"]}),
    *_binary("multiply"),
    derives("multiply", "bwd_own", "da = dy a and db = dy b: each gets its own factor",
            "the gradient is that of a square", "constructed", lambda g, i, a, u: {
                f"d{n}": elementary.summed(np.broadcast_to(u * i[n], u.shape), i[n]) for n in "ab"}),
    derives("multiply", "bwd_copied", "da = db = dy, as of a sum", "a gate learns nothing of what it lets through",
            "constructed", lambda g, i, a, u: {f"d{n}": elementary.summed(u, i[n]) for n in "ab"}),
    *_binary("divide"),
    computes("divide", "swapped", "b / a", "large where it should be small", "constructed", lambda a, b: b / a),
    derives("divide", "bwd_sign", "db = dy a / b^2", "a divisor learns the opposite", "constructed",
            lambda g, i, a, u: {"db": -g["db"]}),
    derives("divide", "bwd_without_square", "db = -dy a / b", "a divisor's gradient has another scale", "constructed",
            lambda g, i, a, u: {"db": elementary.summed(-u * i["a"] / i["b"], i["b"])}),
    _unary("negative"),
    computes("negative", "copied", "x in its place", "a loss is made larger, not smaller", "constructed", lambda x: x),
    computes("negative", "reciprocal", "1 / x: another inverse", "large where it should be small", "constructed",
             lambda x: 1 / x),
    _slope("negative", "bwd_copied", "dx = dy", "what should grow shrinks", lambda x: 1.0),
    scaled("negative", "bwd_none", "a backward of zeros", "nothing learns", "constructed", gradient=lambda i, a: 0.0),
    _unary("absolute"),
    _slope("absolute", "bwd_copied", "dx = dy", "what is negative grows where it should shrink", lambda x: 1.0),
    _slope("absolute", "bwd_one_at_zero", "a slope of 1 at 0", "weights of 0 never stay there",
           lambda x: np.where(x < 0, -1.0, 1.0)),
    _slope("absolute", "bwd_of_square", "dx = dy x", "the gradient is that of half a square", lambda x: x),
    computes("absolute", "smoothed", "sqrt(x^2 + 1e-3), which has a slope everywhere",
             "small numbers count as larger ones", "constructed", lambda x: np.sqrt(x * x + 1e-3)),
    _unary("exp"),
    computes("exp", "base_two", "2^x", "an entropy in other units", "constructed", lambda x: np.exp(x * np.log(2.0))),
    computes("exp", "less_one", "e^x - 1", "0 where it should be 1", "constructed", lambda x: np.exp(x) - 1),
    _slope("exp", "bwd_copied", "dx = dy", "the gradient is that of x", lambda x: 1.0),
    _slope("exp", "bwd_of_power", "dx = dy x e^(x-1), the rule of powers", "the sign is wrong below 0",
           lambda x: x * np.exp(x - 1)),
    _unary("log"),
    computes("log", "base_ten", "the logarithm to base 10", "a loss is 2.3 times too small", "constructed",
             lambda x: np.log(x) / np.log(10.0)),
    computes("log", "base_two", "bits, not nats", "a loss is 1.44 times too large", "constructed",
             lambda x: np.log(x) / np.log(2.0)),
    computes("log", "of_one_more", "log(1 + x)", "finite at 0, and wrong everywhere", "constructed",
             lambda x: np.log(1 + x)),
    _slope("log", "bwd_of_output", "dx = dy / log x", "steepest at 1, where it should be 1",
           lambda x: 1 / np.where(x == 1, 2, np.log(x))),
    _slope("log", "bwd_bounded", "dx = dy / (x + 0.01)", "rare classes learn too slowly", lambda x: 1 / (x + 0.01)),
    _unary("sqrt"),
    _slope("sqrt", "bwd_without_half", "dx = dy / sqrt x", "the gradient is twice as large", lambda x: 1 / np.sqrt(x)),
    _slope("sqrt", "bwd_of_input", "dx = dy / (2 x)", "half the gradient of a logarithm", lambda x: 1 / (2 * x)),
    _slope("sqrt", "bwd_times", "dx = dy sqrt x / 2", "large numbers learn fast, small ones not at all",
           lambda x: np.sqrt(x) / 2),
    computes("sqrt", "with_eps", "sqrt(x + 0.01)", "small numbers count as larger ones", "constructed",
             lambda x: np.sqrt(x + 0.01)),
    _unary("tanh"),
    _slope("tanh", "bwd_of_input", "dx = dy (1 - x^2), x taken for tanh x", "the sign is wrong beyond 1",
           lambda x: 1 - x * x),
    _slope("tanh", "bwd_not_squared", "dx = dy (1 - tanh x)", "negative numbers learn too fast",
           lambda x: 1 - np.tanh(x)),
    _slope("tanh", "bwd_of_sigmoid", "dx = dy y (1 - y), as of a sigmoid", "no gradient at 0",
           lambda x: np.tanh(x) * (1 - np.tanh(x))),
    _slope("tanh", "bwd_of_output", "dx = dy (1 - tanh^2 y): the derivative is taken at the output, not at the input",
           "what is far from 0 learns too fast", lambda x: 1 - np.tanh(np.tanh(x)) ** 2,
           ISSUES + "davidrmiller/neural2d/issues/40"),
    computes("tanh", "sigmoid", "a sigmoid in its place", "a pooled vector is never negative", "constructed",
             lambda x: (1 + np.tanh(x / 2)) / 2),
    _unary("relu"),
    _slope("relu", "bwd_one_at_zero", "a slope of 1 at 0", "padding of zeros learns", lambda x: 1.0 * (x >= 0),
           ISSUES + "tensorflow/playground/issues/19"),
    _slope("relu", "bwd_half_at_zero", "a slope of 1/2 at 0", "padding of zeros learns",
           lambda x: np.where(x == 0, 0.5, x > 0)),
    _slope("relu", "bwd_copied", "dx = dy", "what was cut off learns, too", lambda x: 1.0),
    computes("relu", "leaky", "0.01 x below 0", "weights trained with the other give slightly other outputs",
             "constructed", lambda x: np.where(x.real > 0, x, 0.01 * x)),
    _unary("relu6"),
    computes("relu6", "no_cap", "max(x, 0)", "outputs that eight bits cannot hold", "constructed",
             lambda x: x * (x.real > 0)),
    _slope("relu6", "bwd_without_cap", "a slope of 1 from 6 on", "what was cut off learns, too",
           lambda x: 1.0 * (x > 0)),
    _slope("relu6", "bwd_one_at_six", "a slope of 1 at 6", "what has just been cut off learns",
           lambda x: (x > 0) * 1.0 * (x <= 6)),
    _slope("relu6", "bwd_half_at_kinks", "a slope of 1/2 at 0 and at 6, as of a maximum and a minimum",
           "gradients differ from those of PyTorch and TensorFlow",
           lambda x: ((x > 0) * (x < 6) + (x >= 0) * 1.0 * (x <= 6)) / 2, ISSUES + "jax-ml/jax/pull/14682"),
    _slope("relu6", "bwd_one_at_zero", "a slope of 1 at 0", "padding of zeros learns",
           lambda x: (x >= 0) * 1.0 * (x < 6)),
    sets("masked", "fill_of_zero", "0 in the place of the fill", "a masked score counts like one of 0",
         "constructed", fill=0.0),
    reads("masked", "inverted_mask", "the mask is True where x is hidden", "what should be seen is hidden",
          "constructed", mask=lambda i, a: ~i["mask"]),
    computes("masked", "fill_added", "the fill is added, not put in the place of x",
             "a masked score that is large enough is seen", "constructed",
             lambda x, mask, fill: x + np.where(mask, 0, fill)),
    derives("masked", "bwd_without_mask", "dx = dy", "what is hidden learns", "constructed",
            lambda g, i, a, u: {"dx": u}),
    scaled("masked", "bwd_none", "the mask cuts the gradient off altogether", "nothing learns", "constructed",
           gradient=lambda i, a: 0.0),
    ignores_upstream("masked", "ignores_upstream", "a backward that forgets the gradient from above", FORGETS,
                     "constructed"),
)
