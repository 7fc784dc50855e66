"""The affine map in groups: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads

ISSUES = "https://github.com/"
OTHERS = "outputs read other inputs than those that they were trained on"


def _grouped(x, weight, groups, inputs=lambda parts: parts, outputs=lambda y: y):
    """(..., F) of x cut into groups and put together again, in other ways."""
    parts = inputs(x.reshape(-1, groups, x.shape[-1] // groups))                        # (N, G, I)
    blocks = weight.reshape(groups, -1, weight.shape[1])                                # (G, F/G, I)
    y = outputs(np.einsum("ngi,gfi->ngf", parts, blocks))                               # (N, G, F/G)
    return y.reshape(*x.shape[:-1], len(weight))


def _interleaved_inputs(x, weight, bias, groups):
    """Group g reads inputs g, g + G, g + 2G ..."""
    return _grouped(x.reshape(*x.shape[:-1], -1, groups).swapaxes(-1, -2).reshape(x.shape), weight, groups) + bias


def _shared_bias(i, a):
    groups = a.get("groups", 4)
    return np.repeat(i["bias"][:groups], len(i["bias"]) // groups)


def _first_weights(i, a):
    groups = a.get("groups", 4)
    return np.tile(i["weight"][:len(i["weight"]) // groups], (groups, 1))


def _last_of_each_group(g, i, a, u):
    F, groups = len(i["weight"]), a["groups"]
    last = [(n + 1) * F // groups - 1 for n in range(groups)]
    return {"dx": np.concatenate([u[..., f, None] * i["weight"][f] for f in last], axis=-1)}        # (..., D)


E = "grouped_linear"
TRAPS = (
    computes(E, "outputs_interleaved", "outputs lie g1 g2 g1 g2 ..., not g1 g1 ... g2 g2",
             "the next layer mixes other groups",
             ISSUES + "uxlfoundation/oneDNN/issues/352", lambda x, weight, bias, groups:
             _grouped(x, weight, groups, outputs=lambda y: y.swapaxes(1, 2)) + bias),
    computes(E, "inputs_interleaved", "group g reads every G-th input", OTHERS, ISSUES + "onnx/onnx/issues/2273",
             _interleaved_inputs),
    computes(E, "groups_reversed", "the first outputs read the last inputs", OTHERS, "constructed",
             lambda x, weight, bias, groups: _grouped(x, weight, groups, inputs=lambda p: p[:, ::-1]) + bias),
    computes(E, "first_inputs", "every group reads the first group's inputs", "most inputs are never read",
             "constructed",
             lambda x, weight, bias, groups: _grouped(x, weight, groups, inputs=lambda p: p[:, :1] + 0 * p) + bias),
    reads(E, "weights_shared", "every group has the first one's weights", "groups compute the same of different inputs",
          ISSUES + "BVLC/caffe/issues/5334", weight=_first_weights),
    reads(E, "bias_per_group", "one bias for a group", "outputs of a group have the same offset", "constructed",
          bias=_shared_bias),
    derives(E, "bwd_bias_mean", "the bias' gradient is a mean over the rows", "biases hardly learn",
            ISSUES + "kvfrans/notes/issues/5",
            lambda g, i, a, u: {"dbias": g["dbias"] * i["x"].shape[-1] / i["x"].size}),
    derives(E, "bwd_overwritten", "of the outputs that read an input only the last hands its gradient on",
            "layers below learn from one output of a group", "constructed", _last_of_each_group),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", "outputs pull up alike",
                     "constructed"),
)
