"""Softmax: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads
from tinydistill_reference.softmax import log_softmax, softmax

ISSUES = "https://github.com/"


def _softmax(x, mask=True, axis=-1, subtract=True):
    """0 where the mask is, and where nothing is seen."""
    peak = np.where(mask, x.real, -np.inf).max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(peak), peak, 0) if subtract else 0
    e = np.where(mask, np.exp(np.where(mask, x - shift, 0)), 0)
    total = e.sum(axis=axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


def _derived(x, mask, upstream, change):
    """change(y, dy) with y of the right forward."""
    return {"dx": np.where(mask, change(softmax(x, mask), upstream), 0)}


E, L = "softmax", "log_softmax"
TRAPS = (
    computes(E, "wrong_axis", "softmax over the heads, not over the keys",
             "probabilities of a query do not add up to 1",
             ISSUES + "PetrochukM/PyTorch-NLP/issues/2", lambda x, mask: _softmax(x, mask, axis=1)),
    reads(E, "no_mask", "a mask of ones",
          "padding is attended to, and the result depends on the longest text of the batch",
          ISSUES + "yg211/bert_nli/pull/3", mask=lambda i, a: np.ones_like(i["mask"])),
    computes(E, "mask_after_softmax", "softmax over all keys, then 0 at the masked ones",
             "what is left does not add up to 1, the less the more padding there is",
             ISSUES + "huggingface/pytorch-image-models/pull/2236", lambda x, mask: _softmax(x) * mask),
    computes(E, "mask_times_scores", "masked scores are set to 0, not to -inf",
             "a masked key counts like one of score 0",
             ISSUES + "georg-wolflein/good-features/pull/1", lambda x, mask: _softmax(np.where(mask, x, 0))),
    computes(E, "mask_minus_10000", "-10000 is added to masked scores", "a masked key that scores high is attended to",
             ISSUES + "huggingface/transformers/issues/12109", lambda x, mask: _softmax(x - 10000.0 * ~mask)),
    computes(E, "mask_is_finite", "masked scores are set to -10000", "real keys that score lower are not attended to",
             ISSUES + "TransformerLensOrg/TransformerLens/issues/318",
             lambda x, mask: _softmax(np.where(mask, x, -10000.0))),
    reads(E, "inverted_mask", "the mask is True where a key may not be seen", "only padding is attended to",
          ISSUES + "lucidrains/halonet-pytorch/pull/6", mask=lambda i, a: ~i["mask"]),
    computes(E, "no_maximum", "exp of the scores as they are", "NaN once a score is larger than 88 in float32",
             ISSUES + "uTensor/uTensor/issues/175", lambda x, mask: np.where(mask, np.exp(x), 0)
             / np.where(mask, np.exp(x), 0).sum(axis=-1, keepdims=True)),
    computes(E, "off_by_one", "1 is added to the sum of the exponentials",
             "a query may attend to nothing: rows do not add up to 1",
             ISSUES + "kyegomez/AttentionIsOFFByOne/issues/2", lambda x, mask: _softmax(x, mask)
             / (1 + 1 / np.where(mask, np.exp(x - x.real.max(axis=-1, keepdims=True)), 0).sum(axis=-1, keepdims=True))),
    derives(E, "bwd_diagonal", "a backward of dy y (1 - y), as of a sigmoid", "scores of one row do not compete",
            ISSUES + "Apiquet/DeepLearningFrameworkFromScratchCpp/issues/1",
            lambda g, i, a, u: _derived(i["x"], i["mask"], u, lambda y, dy: dy * y * (1 - y))),
    derives(E, "bwd_without_sum", "a backward of y dy, without the sum",
            "all scores of a row drift up or down together", ISSUES + "HomericIntelligence/Odyssey/issues/2134",
            lambda g, i, a, u: _derived(i["x"], i["mask"], u, lambda y, dy: y * dy)),
    derives(E, "bwd_plain_sum", "a backward of y (dy - sum dy)", "all scores of a row drift up or down together",
            "constructed", lambda g, i, a, u: _derived(
                i["x"], i["mask"], u, lambda y, dy: y * (dy - np.where(i["mask"], dy, 0).sum(axis=-1, keepdims=True)))),
    derives(E, "bwd_copied", "a backward that hands the gradient on as it is", "the softmax might as well not be there",
            ISSUES + "pjreddie/darknet/pull/96", lambda g, i, a, u: _derived(i["x"], i["mask"], u, lambda y, dy: dy)),
    ignores_upstream(E, "ignores_upstream", "a backward that is seeded with ones",
                     "no gradient at all: rows add up to 1", ISSUES + "harvard-edge/cs249r_book/pull/2053"),
    computes(L, "wrong_axis", "log softmax over the heads, not over the last axis", "rows are no log-probabilities",
             "constructed", lambda x: np.log(_softmax(x, axis=1))),
    computes(L, "log_of_softmax", "the logarithm of a softmax that has been rounded to 0",
             "-inf, then NaN in the gradient", ISSUES + "tracel-ai/burn/issues/315", lambda x: np.log(_softmax(x))),
    computes(L, "no_log", "probabilities, not their logarithms",
             "a loss that wants log-probabilities is nearly constant",
             ISSUES + "clvrai/ACGAN-PyTorch/issues/3", lambda x: _softmax(x)),
    computes(L, "base_two", "bits, not nats", "a loss is 1.44 times too large", "constructed",
             lambda x: np.stack([log_softmax(row) for row in x]) / np.log(2.0)),
    derives(L, "bwd_weighted_sum", "a backward of dy - sum y dy", "the gradient of a likelihood has the wrong size",
            ISSUES + "uxlfoundation/oneDNN/issues/616",
            lambda g, i, a, u: {"dx": u - (u * log_softmax(i["x"])).sum(axis=-1, keepdims=True)}),
    derives(L, "bwd_added", "a backward of dy + softmax(x)", "the gradient does not vanish where it should",
            ISSUES + "mlpack/mlpack/issues/2360", lambda g, i, a, u: {"dx": u + _softmax(i["x"])}),
    derives(L, "bwd_of_a_label", "a backward of dy - softmax(x), as if dy added up to 1",
            "right under a plain cross-entropy of one row, wrong under its mean, a weight or a divergence",
            "constructed", lambda g, i, a, u: {"dx": u - _softmax(i["x"])}),
    derives(L, "bwd_without_sum", "a backward of dy: the normaliser counts as constant", "logits grow without end",
            "constructed", lambda g, i, a, u: {"dx": u}),
)
