"""GELU: how it has been got wrong."""

import numpy as np

from tinydistill_reference.erf import erf
from tinydistill_reference.gelu import gelu, gelu_gradient, gelu_new, gelu_new_gradient
from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads

ISSUES = "https://github.com/"
OTHER = "weights trained with the other form give slightly other outputs, layer after layer"
NO_GRADIENT = "the gradient is not that of the loss: it does not vanish at its minimum"


def _tanh_form(root=(2 / np.pi) ** 0.5, c=0.044715, power=3):
    return lambda x: x * (1 + np.tanh(root * (x + c * x ** power))) / 2


def _sigmoid_form(x):
    """x / (1 + exp(-1.702 x))."""
    return x * (1 + np.tanh(0.851 * x)) / 2


def _density(x):
    return np.exp(-x * x / 2) / (2 * np.pi) ** 0.5


def _slope_without_cube(x):
    t = np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x ** 3))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * (2 / np.pi) ** 0.5


def _both(name):
    """What goes wrong alike."""
    return (
        computes(name, "sigmoid_form", "x sigmoid(1.702 x), CLIP's quick_gelu", "outputs differ by up to 0.02",
                 ISSUES + "huggingface/pytorch-image-models/issues/1754", _sigmoid_form),
        computes(name, "silu", "x sigmoid(x)", "another activation: its minimum is deeper and further left",
                 "constructed", lambda x: x * (1 + np.tanh(x / 2)) / 2),
        computes(name, "relu", "max(x, 0)", "no gradient below 0", "constructed", lambda x: x * (x.real > 0)),
        computes(name, "x_twice", "x^2 Phi(x): what is documented as Phi(x) was x Phi(x) already",
                 "outputs grow like x^2",
                 ISSUES + "tensorflow/tensorflow/issues/50510",
                 lambda x: x * {"gelu": gelu, "gelu_new": gelu_new}[name](x)),
        ignores_upstream(name, "ignores_upstream", "a backward that forgets the gradient from above", NO_GRADIENT,
                         "constructed"),
    )


E, N = "gelu", "gelu_new"
TRAPS = (
    computes(E, "tanh_form", "the tanh form for the exact one", OTHER, ISSUES + "Blaizzy/mlx-embeddings/issues/81",
             gelu_new),
    derives(E, "bwd_of_tanh_form", "a backward of the tanh form under the exact forward", NO_GRADIENT, "constructed",
            lambda g, i, a, u: {"dx": gelu_new_gradient(u, i["x"])["x"]}),
    computes(E, "no_root_2", "erf(x), not erf(x / sqrt 2)", "a steeper function", "constructed",
             lambda x: x * (1 + erf(x)) / 2),
    derives(E, "bwd_without_density", "a backward of Phi(x), without x phi(x)", NO_GRADIENT, "constructed",
            lambda g, i, a, u: {"dx": u * (1 + erf(i["x"] / 2 ** 0.5)) / 2}),
    derives(E, "bwd_unscaled_density", "a density without 1 / sqrt(2 pi)", NO_GRADIENT, "constructed",
            lambda g, i, a, u: {"dx": g["dx"] + u * i["x"] * _density(i["x"]) * ((2 * np.pi) ** 0.5 - 1)}),
    *_both(E),
    computes(N, "exact_form", "the exact form for the tanh one", OTHER, ISSUES + "kyutai-labs/pocket-tts/pull/278",
             gelu),
    derives(N, "bwd_of_exact_form", "a backward of the exact form under the tanh forward", NO_GRADIENT, "constructed",
            lambda g, i, a, u: {"dx": gelu_gradient(u, i["x"])["x"]}),
    computes(N, "upside_down_root", "sqrt(pi / 2) for sqrt(2 / pi)", "a steeper function",
             ISSUES + "pytorch/pytorch/issues/20464", _tanh_form(root=(np.pi / 2) ** 0.5)),
    computes(N, "square_for_cube", "0.044715 x^2 for 0.044715 x^3",
             "not symmetric any more: gelu(x) - gelu(-x) is not x", "constructed", _tanh_form(power=2)),
    computes(N, "wrong_constant", "0.44715 for 0.044715", "too steep away from 0", "constructed",
             _tanh_form(c=0.44715)),
    derives(N, "bwd_without_cube", "a backward whose inner slope forgets 3 c x^2", NO_GRADIENT, "constructed",
            lambda g, i, a, u: {"dx": u * _slope_without_cube(i["x"])}),
    *_both(N),
    reads("bias_gelu", "no_bias", "the bias is left out", "a loaded model is slightly off", "constructed",
          bias=lambda i, a: np.zeros_like(i["bias"])),
    computes("bias_gelu", "bias_outside", "gelu(x) + b", "a bias cannot move the threshold", "constructed",
             lambda x, bias: gelu(x) + bias),
    computes("bias_gelu", "tanh_form", "gelu_new, the tanh form", OTHER, "constructed",
             lambda x, bias: gelu_new(x + bias)),
    derives("bias_gelu", "bwd_slope_of_x", "the slope at x, not at x + b", NO_GRADIENT, "constructed",
            lambda g, i, a, u: {"dx": gelu_gradient(u, i["x"])["x"]}),
    derives("bias_gelu", "bwd_bias_mean", "the bias' gradient is a mean over the rows", "biases hardly learn",
            ISSUES + "kvfrans/notes/issues/5", lambda g, i, a, u: {"dbias": g["dbias"] * len(i["bias"]) / u.size}),
    derives("bias_gelu", "bwd_bias_copied", "the bias' gradient is the sum of dy, without the slope", NO_GRADIENT,
            "constructed", lambda g, i, a, u: {"dbias": u.reshape(-1, len(i["bias"])).sum(axis=0)}),
    ignores_upstream("bias_gelu", "ignores_upstream", "a backward that forgets the gradient from above",
                     "outputs pull up alike", "constructed"),
)
