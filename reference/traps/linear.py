"""The affine map: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads

ISSUES = "https://github.com/"


def _rows(x):
    return x.size // x.shape[-1]


def _transposed(x, weight, bias):
    """x W where that fits."""
    return x @ (weight if weight.shape[0] == weight.shape[1] else weight.T) + bias


E = "linear"
TRAPS = (
    computes(E, "transposed", "a square weight that lies inputs first",
             "weights of TensorFlow load without an error, and are wrong",
             ISSUES + "vllm-project/vllm/issues/44110", _transposed),
    reads(E, "no_bias", "the bias is left out", "a loaded model is slightly off", "constructed",
          bias=lambda i, a: np.zeros_like(i["bias"])),
    derives(E, "bwd_bias_mean", "the bias' gradient is a mean over the rows", "biases hardly learn",
            ISSUES + "kvfrans/notes/issues/5", lambda g, i, a, u: {"dbias": g["dbias"] / _rows(i["x"])}),
    derives(E, "bwd_bias_total", "one sum over rows and outputs for all biases", "all biases are the same for ever",
            ISSUES + "rasbt/stat453-deep-learning-ss21/issues/5",
            lambda g, i, a, u: {"dbias": np.full_like(g["dbias"], u.sum())}),
    derives(E, "bwd_bias_one_row", "the bias' gradient is that of one row", "right for a batch of 1 only",
            ISSUES + "mlpack/mlpack/pull/3679", lambda g, i, a, u: {"dbias": u.reshape(-1, u.shape[-1])[0]}),
    derives(E, "bwd_weight_mean", "the weight's gradient is a mean over the rows",
            "what the loss had divided is divided again", ISSUES + "hunkim/DeepLearningZeroToAll/issues/173",
            lambda g, i, a, u: {"dweight": g["dweight"] / _rows(i["x"])}),
    derives(E, "bwd_no_input", "no gradient reaches x", "layers below do not learn", "constructed",
            lambda g, i, a, u: {"dx": np.zeros_like(g["dx"])}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", "outputs pull up alike",
                     "constructed"),
)
