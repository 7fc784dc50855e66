"""Vectors of length 1: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, sets

ISSUES = "https://github.com/"


def _sum(x, axis=-1):
    return (x * x).sum(axis=axis, keepdims=True)


def _least(n, eps):
    return np.where(n.real > eps, n, eps)


def _over(length):
    """x over another length."""
    return lambda x, eps: x / length(x, eps)


def _lengths(i, a):
    return _least(np.sqrt(_sum(i["x"])), a["eps"])


def _not_a_number(g, i, a, u):
    zero = _sum(i["x"]) == 0
    return {"dx": np.where(zero, np.nan, g["dx"])}


E = "unit_norm"
TRAPS = (
    computes(E, "eps_added", "eps is added to the length", "short vectors come out shorter",
             ISSUES + "chainer/chainer/issues/4765",
             _over(lambda x, eps: np.where(_sum(x) == 0, eps, np.sqrt(_sum(x)) + eps))),
    computes(E, "eps_of_square", "the square of the length is at least eps: TensorFlow's l2_normalize",
             "vectors shorter than 1e-6 do not get length 1", ISSUES + "keras-team/keras/pull/6513",
             _over(lambda x, eps: np.sqrt(_least(_sum(x), eps)))),
    computes(E, "eps_inside", "eps is added below the root", "vectors shorter than 1e-6 do not get length 1",
             ISSUES + "apple/axlearn/pull/21", _over(lambda x, eps: np.sqrt(_sum(x) + eps))),
    sets(E, "eps_1e-8", "the eps of cosine_similarity, 1e-8", "vectors that are shorter do not get length 1",
         "torch.nn.functional.cosine_similarity", eps=1e-8),
    computes(E, "whole_tensor", "one length for all vectors", "vectors of a batch change each other",
             ISSUES + "tenstorrent/tt-metal/issues/19772", _over(lambda x, eps: _least(np.sqrt((x * x).sum()), eps))),
    computes(E, "wrong_axis", "lengths over the tokens, not over the features", "tokens change each other",
             ISSUES + "ronghuaiyang/arcface-pytorch/issues/30",
             _over(lambda x, eps: _least(np.sqrt(_sum(x, -2)), eps))),
    computes(E, "no_root", "x over the square of its length", "the shorter a vector, the longer it comes out",
             "constructed", _over(lambda x, eps: _least(_sum(x), eps))),
    computes(E, "absolute", "the sum of magnitudes for the length", "a cosine is not 1 for equal vectors",
             "constructed", _over(lambda x, eps: _least((x * np.sign(x.real)).sum(axis=-1, keepdims=True), eps))),
    derives(E, "bwd_constant_length", "a backward for which the length is constant", "vectors grow without a gain",
            ISSUES + "wy1iu/sphereface/issues/2", lambda g, i, a, u: {"dx": u / _lengths(i, a)}),
    derives(E, "bwd_not_divided", "a backward that forgets to divide by the length", "long vectors learn too fast",
            "constructed", lambda g, i, a, u: {"dx": g["dx"] * _lengths(i, a)}),
    derives(E, "bwd_nan_at_zero", "a backward through sqrt(0)", "one empty vector makes every weight NaN",
            ISSUES + "keras-team/keras/issues/23075", _not_a_number),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "the angle does not count", "constructed"),
)
