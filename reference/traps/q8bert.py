"""Q8BERT: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream

ISSUES = "https://github.com/"
OTHER = "numbers are rounded to other levels than those of the integer product"


def _half_away(v):
    return np.sign(v) * np.floor(np.abs(v) + 0.5)


def _levels(x, largest, bits, rounds=np.rint, low=0, most=None):
    """Levels of the real part; low: how many levels more there are below 0."""
    M = 2 ** (bits - 1) - 1 if most is None else most
    if largest == 0:
        return np.zeros(x.shape)
    return np.clip(rounds(np.real(x) * (M / largest)), -M - low, M)


def _fake(rounds=np.rint, low=0, most=lambda bits: 2 ** (bits - 1) - 1, ends=lambda x, largest: largest):
    """A forward with other levels, straight through."""
    def forward(x, largest, bits):
        r = ends(x, largest)
        y = _levels(x, r, bits, rounds, low, most(bits)) * (r / most(bits))
        return y + 1j * np.imag(x) if np.iscomplexobj(x) else y
    return forward


def _not_clamped(x, largest, bits):
    step = largest / (2 ** (bits - 1) - 1)
    y = np.rint(np.real(x) / step) * step if step else 0 * np.real(x)
    return y + 1j * np.imag(x) if np.iscomplexobj(x) else y


def _inside(i, a):
    return np.abs(i["x"]) <= a["largest"]


def _integers(x, weight, bias, largest, bits, rounds=np.rint, low=0, total=lambda t: t, of_bias=np.rint):
    """(X W^T + B) u with other integers."""
    M, own = 2 ** (bits - 1) - 1, np.abs(weight).max()
    unit = (largest / M) * (own / M)
    X, W = _levels(x, largest, bits, rounds, low), _levels(weight, own, bits, rounds)
    return (total(X @ W.T) + of_bias(bias / unit)) * unit


def _wrapped(bits):
    return lambda t: (t + 2.0 ** (bits - 1)) % 2.0 ** bits - 2.0 ** (bits - 1)


def _saturated(x, weight, bias, largest, bits):
    return _integers(x, weight, bias, largest, bits, of_bias=lambda b: np.clip(np.rint(b), -128, 127))


def _by_rows(x, weight, bias, largest, bits):
    """A step for each output."""
    return np.stack([_integers(x, weight[f:f + 1], bias[f:f + 1], largest, bits)[:, 0] for f in range(len(weight))],
                    axis=1)


def _scale_of_x(x, weight, bias, largest, bits):
    """The bias rounded to multiples of x's step."""
    step = largest / (2 ** (bits - 1) - 1)
    return _integers(x, weight, 0 * bias, largest, bits) + np.rint(bias / step) * step


E, I = "fake_quantise.q8bert", "integer_linear"
TRAPS = (
    computes(E, "half_away", "halves are rounded away from 0, as by C's round", OTHER,
             ISSUES + "intel/torch-xpu-ops/pull/5349", _fake(_half_away)),
    computes(E, "truncated", "numbers are cut off, not rounded",
             "everything comes out smaller, by half a step on average",
             ISSUES + "sgl-project/sglang-jax/pull/1598", _fake(np.trunc)),
    computes(E, "level_minus_128", "the lowest level is -128",
             "-128 times -128 does not fit, and 0 is not in the middle",
             ISSUES + "microsoft/onnxruntime/pull/10170", _fake(low=1)),
    computes(E, "scale_of_128", "the largest magnitude stands for 128, not for 127", "the largest number is clamped",
             ISSUES + "IntelLabs/distiller/pull/463", _fake(low=1, most=lambda bits: 2 ** (bits - 1))),
    computes(E, "not_clamped", "numbers beyond the largest get levels that there are not",
             "training sees what eight bits cannot hold", ISSUES + "ROCm/aiter/pull/4637", _not_clamped),
    computes(E, "own_range", "the tensor's own largest magnitude for the one that was given",
             "ranges that were learned have no effect", "constructed",
             _fake(ends=lambda x, largest: float(np.abs(np.real(x)).max()))),
    computes(E, "not_scaled_back", "levels, not numbers", "outputs are integers of up to 127", "constructed",
             lambda x, largest, bits: _levels(x, largest, bits) + (1j * np.imag(x) if np.iscomplexobj(x) else 0)),
    derives(E, "bwd_of_rounding", "the true derivative of rounding: 0", "nothing below learns",
            ISSUES + "Justin-Tan/generative-compression/issues/27", lambda g, i, a, u: {"dx": np.zeros_like(u)}),
    derives(E, "bwd_masked", "what was clamped gets no gradient, as torch.fake_quantize_per_tensor_affine has it",
            "weights beyond the range stay there", ISSUES + "pytorch/pytorch/issues/38600",
            lambda g, i, a, u: {"dx": u * _inside(i, a)}),
    derives(E, "bwd_scaled", "the gradient of what is divided by the step, not multiplied back",
            "learns too fast or too slowly", ISSUES + "huggingface/optimum-quanto/issues/146", lambda g, i, a, u: {
                "dx": u * (2 ** (a["bits"] - 1) - 1) / a["largest"] if a["largest"] else u}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", "numbers pull up alike",
                     "constructed"),
    computes(I, "bias_not_rounded", "the bias is added as a floating number", "not what integers alone would give",
             "constructed",
             lambda x, weight, bias, largest, bits: _integers(x, weight, bias, largest, bits, of_bias=lambda b: b)),
    computes(I, "bias_of_eight_bits", "the bias is held to -128 .. 127 units", "a large bias is cut off",
             ISSUES + "pytorch/glow/pull/3466", _saturated),
    computes(I, "bias_in_steps_of_x", "the bias is rounded to steps of x, not to products of both steps",
             "biases are coarse", ISSUES + "pytorch/glow/pull/3770", _scale_of_x),
    computes(I, "no_bias", "the bias is left out", "outputs are off by a vector", "constructed",
             lambda x, weight, bias, largest, bits: _integers(x, weight, 0 * bias, largest, bits)),
    computes(I, "sums_of_16_bits", "sums wrap around at 2^15", "large outputs change their sign",
             ISSUES + "pytorch/pytorch/issues/76390", lambda x, weight, bias, largest, bits:
             _integers(x, weight, bias, largest, bits, total=_wrapped(16))),
    computes(I, "truncated", "levels are cut off, not rounded", "everything comes out smaller",
             ISSUES + "zephyrproject-rtos/zephyr/issues/88638", lambda x, weight, bias, largest, bits:
             _integers(x, weight, bias, largest, bits, rounds=np.trunc)),
    computes(I, "step_of_each_output", "every output has its own step",
             "other numbers than the fake quantised layer gives",
             ISSUES + "huggingface/optimum-quanto/issues/137", _by_rows),
    computes(I, "level_minus_128", "the lowest level of x is -128", "outputs differ where x is clamped",
             ISSUES + "microsoft/onnxruntime/pull/10170", lambda x, weight, bias, largest, bits:
             _integers(x, weight, bias, largest, bits, low=1)),
)
