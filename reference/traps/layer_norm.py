"""Layer normalisation: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, sets

ISSUES = "https://github.com/"
SLIGHTLY = "weights trained with another layer norm give slightly other outputs, layer after layer"


def _norm(scale=lambda var, eps: np.sqrt(var + eps), axes=-1, ddof=0, centred=True):
    """A forward with another variance, axis or root."""
    def forward(x, gain, bias, eps):
        off = x - x.mean(axis=axes, keepdims=True) if centred else x
        count = off.size / off.mean(axis=axes).size - ddof
        return gain * off / scale((off * off).sum(axis=axes, keepdims=True) / count, eps) + bias
    return forward


def _parts(inputs, attrs, upstream):
    """dxhat, xhat, sigma."""
    off = inputs["x"] - inputs["x"].mean(axis=-1, keepdims=True)
    sigma = np.sqrt((off * off).mean(axis=-1, keepdims=True) + attrs["eps"])
    return inputs["gain"] * upstream, off / sigma, sigma


def _mean(x):
    return x.mean(axis=-1, keepdims=True)


def _without_variance(g, i, a, u):
    dxhat, _, sigma = _parts(i, a, u)
    return {"dx": (dxhat - _mean(dxhat)) / sigma}


def _without_mean(g, i, a, u):
    dxhat, xhat, sigma = _parts(i, a, u)
    return {"dx": (dxhat - xhat * _mean(dxhat * xhat)) / sigma}


def _constants(g, i, a, u):
    dxhat, _, sigma = _parts(i, a, u)
    return {"dx": dxhat / sigma}


def _without_gain(g, i, a, u):
    dxhat, xhat, sigma = _parts(i | {"gain": np.ones_like(i["gain"])}, a, u)
    return {"dx": (dxhat - _mean(dxhat) - xhat * _mean(dxhat * xhat)) / sigma}


E, R = "layer_norm", "layer_norm_residual"
TRAPS = (
    sets(E, "eps_1e-5", "PyTorch's eps of 1e-5 for BERT's 1e-12", SLIGHTLY,
         ISSUES + "keras-team/keras-hub/issues/642", eps=1e-5),
    computes(E, "eps_outside", "eps is added to the root of the variance", SLIGHTLY,
             ISSUES + "hkproj/pytorch-transformer/pull/31", _norm(lambda var, eps: np.sqrt(var) + eps)),
    computes(E, "unbiased", "the variance is divided by D - 1", "outputs are smaller by sqrt((D - 1) / D)",
             ISSUES + "harvardnlp/annotated-transformer/pull/119", _norm(ddof=1)),
    computes(E, "unbiased_outside", "x.std() + eps, the unbiased one: both at once", SLIGHTLY,
             ISSUES + "codertimo/BERT-pytorch/issues/30", _norm(lambda var, eps: np.sqrt(var) + eps, ddof=1)),
    computes(E, "root_of_deviation", "the root of the standard deviation plus eps",
             "outputs are scaled by the root of sigma",
             ISSUES + "hyunwoongko/transformer/issues/7", _norm(lambda var, eps: np.sqrt(np.sqrt(var) + eps))),
    computes(E, "squared", "(var + eps)^2 in the place of its root", "outputs depend on how large x is",
             ISSUES + "131250208/TPlinker-joint-extraction/issues/37", _norm(lambda var, eps: (var + eps) ** 2)),
    computes(E, "wrong_axis", "mean and variance over the tokens, not over the features",
             "tokens see each other, and padding", ISSUES + "tensorflow/addons/pull/2142", _norm(axes=-2)),
    computes(E, "two_axes", "mean and variance over the last two axes", "tokens see each other, and padding",
             ISSUES + "reczoo/FuxiCTR/issues/23", _norm(axes=(-2, -1))),
    computes(E, "not_centred", "no mean is taken off: RMS norm",
             "another network, which has no use for a pretrained gain", "constructed", _norm(centred=False)),
    derives(E, "bwd_constant_variance", "a backward for which the variance is constant", "x grows along xhat",
            ISSUES + "abhiskk/ladder/issues/2", _without_variance),
    derives(E, "bwd_constant_mean", "a backward for which the mean is constant", "x drifts along its mean",
            ISSUES + "BVLC/caffe/pull/1891", _without_mean),
    derives(E, "bwd_constants", "a backward for which mean and variance are constant", "x drifts and grows",
            "constructed", _constants),
    derives(E, "bwd_without_gain", "a backward to x that forgets the gain",
            "wrong as soon as the gain has learned something", "constructed", _without_gain),
    derives(E, "bwd_swapped", "the gradients of gain and bias change places", "both learn what the other should",
            ISSUES + "Oneflow-Inc/oneflow/pull/6149", lambda g, i, a, u: {"dgain": g["dbias"], "dbias": g["dgain"]}),
    derives(E, "bwd_mean_of_rows", "the gradients of gain and bias are means over the rows",
            "gain and bias hardly learn", ISSUES + "kvfrans/notes/issues/5",
            lambda g, i, a, u: {n: g[n] * i["x"].shape[-1] / i["x"].size for n in ("dgain", "dbias")}),
    ignores_upstream(E, "ignores_upstream", "a backward that is seeded with ones",
                     "no gradient reaches x where the gain is 1", ISSUES + "pytorch/pytorch/issues/63541"),
    reads(R, "no_residual", "the residual is left out", "a deep network forgets its input", "constructed",
          residual=lambda i, a: np.zeros_like(i["residual"])),
    computes(R, "norm_before", "layer_norm(x) + residual: the addition follows the norm",
             "another network, whose outputs have no unit variance", "constructed",
             lambda x, residual, gain, bias, eps: _norm()(x, gain, bias, eps) + residual),
    computes(R, "eps_outside", "eps is added to the root of the variance", SLIGHTLY,
             ISSUES + "hkproj/pytorch-transformer/pull/31", lambda x, residual, gain, bias, eps:
             _norm(lambda var, eps: np.sqrt(var) + eps)(x + residual, gain, bias, eps)),
    derives(R, "bwd_no_residual", "no gradient reaches the residual", "layers below learn through x only",
            "constructed", lambda g, i, a, u: {"dresidual": np.zeros_like(g["dresidual"])}),
    derives(R, "bwd_shared", "x and residual share the gradient, half each", "every layer halves the gradient",
            "constructed", lambda g, i, a, u: {n: g[n] / 2 for n in ("dx", "dresidual")}),
    derives(R, "bwd_copied", "the residual gets dy, as if the norm were not there", "the residual's gradient grows",
            "constructed", lambda g, i, a, u: {"dresidual": u}),
    ignores_upstream(R, "ignores_upstream", "a backward that is seeded with ones",
                     "no gradient reaches x where the gain is 1", ISSUES + "pytorch/pytorch/issues/63541"),
)
