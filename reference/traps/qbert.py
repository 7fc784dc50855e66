"""Q-BERT: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, sets

ISSUES = "https://github.com/"


def _half_up(v):
    return np.floor(v + 0.5)


def _fake(rounds=np.rint, steps=lambda bits: 2 ** bits - 1, columns=False, ends=lambda l, h: (l, h), whole=False):
    """A forward with other levels, straight through."""
    def forward(x, groups, bits):
        real = np.real(x)
        parts = real.T if columns else real
        parts = parts.reshape(groups, -1)                                               # (G, F/G D)
        l, h = ends(parts.min(axis=1, keepdims=True), parts.max(axis=1, keepdims=True))
        d = np.where(h == l, 1, (h - l) / steps(bits))
        zero = np.rint(l / d) * d if whole else l
        y = np.where(h == l, parts, zero + d * np.clip(rounds((parts - zero) / d), 0, 2 ** bits - 1))
        y = y.reshape(real.T.shape).T if columns else y.reshape(real.shape)             # (F, D)
        return y + 1j * np.imag(x) if np.iscomplexobj(x) else y
    return forward


E = "fake_quantise.qbert"
TRAPS = (
    sets(E, "one_group", "one range for the whole matrix", "a row of large weights takes the levels of all others",
         ISSUES + "sIncerass/QBERT/issues/2", groups=1),
    computes(E, "groups_of_columns", "groups of inputs, not of outputs", "other weights share a range",
             ISSUES + "JustVugg/colibri/issues/1008", _fake(columns=True)),
    computes(E, "one_step_more", "2^bits steps for 2^bits - 1", "the highest number has no level",
             "constructed", _fake(steps=lambda bits: 2 ** bits)),
    computes(E, "one_step_less", "2^bits - 2 steps for 2^bits - 1", "a level is never used", "constructed",
             _fake(steps=lambda bits: 2 ** bits - 2)),
    computes(E, "half_up", "halves are rounded up", "numbers in the middle get the other level",
             ISSUES + "ROCm/aiter/pull/3992", _fake(_half_up)),
    computes(E, "truncated", "numbers are cut off, not rounded",
             "everything comes out smaller, by half a step on average",
             ISSUES + "astramind-ai/BitMat/pull/13", _fake(np.floor)),
    computes(E, "symmetric", "a range of -max|x| to max|x|", "half of the levels are lost where numbers have one sign",
             "constructed", _fake(ends=lambda l, h: (-np.maximum(-l, h), np.maximum(-l, h)))),
    computes(E, "with_zero", "the range is stretched until it holds 0", "levels are lost where numbers are far from 0",
             ISSUES + "Samsung/TICO/issues/637", _fake(ends=lambda l, h: (np.minimum(l, 0), np.maximum(h, 0)))),
    computes(E, "whole_zero_point", "the lowest level is a multiple of the step, as of an integer zero point",
             "all levels are shifted by up to half a step", ISSUES + "clevercool/SQuant/issues/11", _fake(whole=True)),
    derives(E, "bwd_of_rounding", "the true derivative of rounding: 0", "nothing learns",
            ISSUES + "Justin-Tan/generative-compression/issues/27", lambda g, i, a, u: {"dx": np.zeros_like(u)}),
    derives(E, "bwd_without_ends", "the lowest and the highest number get no gradient", "ranges never change",
            ISSUES + "tensorflow/tensorflow/issues/22977", lambda g, i, a, u: {"dx": np.where(
                (i["x"] == i["x"].max()) | (i["x"] == i["x"].min()), 0, u)}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", "weights pull up alike",
                     "constructed"),
)
