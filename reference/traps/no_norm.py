"""NoNorm: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads

HUGGING_FACE = "huggingface/transformers src/transformers/models/mobilebert/modeling_mobilebert.py: NORM2FN of " \
               "normalization_type"


def _layer_norm(x, gain, bias):
    off = x - x.mean(axis=-1, keepdims=True)
    return gain * off / np.sqrt((off * off).mean(axis=-1, keepdims=True) + 1e-12) + bias


E, R = "no_norm", "no_norm_residual"
TRAPS = (
    computes(E, "layer_norm", "a layer norm in its place",
             "weights of MobileBERT do not fit: its outputs have another scale", HUGGING_FACE, _layer_norm),
    reads(E, "no_bias", "the bias is left out", "a fine-tuned model forgets a vector for each norm", "constructed",
          bias=lambda i, a: np.zeros_like(i["bias"])),
    reads(E, "one_plus_gain", "the gain is added to 1, as in norms that keep its distance from 1",
          "outputs are twice as large before training", "constructed", gain=lambda i, a: 1 + i["gain"]),
    computes(E, "bias_inside", "gain times the sum of x and bias", "the bias is scaled, too", "constructed",
             lambda x, gain, bias: gain * (x + bias)),
    derives(E, "bwd_mean_of_rows", "the gradients of gain and bias are means over the rows",
            "gain and bias hardly learn", "https://github.com/kvfrans/notes/issues/5",
            lambda g, i, a, u: {n: g[n] * i["x"].shape[-1] / i["x"].size for n in ("dgain", "dbias")}),
    derives(E, "bwd_without_gain", "a backward to x that forgets the gain",
            "wrong as soon as the gain has learned something", "constructed", lambda g, i, a, u: {"dx": u}),
    derives(E, "bwd_swapped", "the gradients of gain and bias change places", "both learn what the other should",
            "https://github.com/Oneflow-Inc/oneflow/pull/6149",
            lambda g, i, a, u: {"dgain": g["dbias"], "dbias": g["dgain"]}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "every output pulls up alike", "constructed"),
    reads(R, "no_residual", "the residual is left out", "a deep network forgets its input", "constructed",
          residual=lambda i, a: np.zeros_like(i["residual"])),
    computes(R, "residual_outside", "gain x + bias + residual", "the residual is not scaled", "constructed",
             lambda x, residual, gain, bias: gain * x + bias + residual),
    computes(R, "layer_norm", "a layer norm in its place",
             "weights of MobileBERT do not fit: its outputs have another scale", HUGGING_FACE,
             lambda x, residual, gain, bias: _layer_norm(x + residual, gain, bias)),
    derives(R, "bwd_no_residual", "no gradient reaches the residual", "layers below learn through x only",
            "constructed", lambda g, i, a, u: {"dresidual": np.zeros_like(g["dresidual"])}),
    derives(R, "bwd_gain_of_x", "the gain's gradient is that of x alone", "the gain learns without the residual",
            "constructed", lambda g, i, a, u: {"dgain": (u * i["x"]).reshape(-1, len(i["gain"])).sum(axis=0)}),
    derives(R, "bwd_shared", "x and residual share the gradient, half each", "every layer halves the gradient",
            "constructed", lambda g, i, a, u: {n: g[n] / 2 for n in ("dx", "dresidual")}),
    ignores_upstream(R, "ignores_upstream", "a backward that forgets the gradient from above",
                     "every output pulls up alike", "constructed"),
)
