"""Head importance: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, scaled

CODE = "pmichel31415/are-16-heads-really-better-than-1"
ORDER = "heads change their order"


def _products(context, gradient):
    return (context * gradient).sum(axis=-1)                                            # (B, A, T)


def _paper(context, gradient):
    return np.abs(_products(context, gradient).sum(axis=2)).mean(axis=0)


def _length(scores):
    return scores / (np.sqrt((scores ** 2).sum()) + 1e-20)


E = "michel.importance"
TRAPS = (
    computes(E, "signed", "no absolute value", ORDER + ": one that lowers the loss counts as unimportant",
             "constructed", lambda context, gradient: _products(context, gradient).sum(axis=2).mean(axis=0)),
    computes(E, "cancelling_examples", "the absolute value of the mean over examples", ORDER + ": examples cancel",
             "huggingface/transformers-research-projects bertology/run_bertology.py",
             lambda context, gradient: np.abs(_products(context, gradient).sum(axis=2).mean(axis=0))),
    computes(E, "by_tokens", "the absolute value at each token, then a mean over examples",
             ORDER + ": tokens cannot cancel", "pmichel31415/pytorch-pretrained-BERT, branch paul",
             lambda context, gradient: np.abs(_products(context, gradient)).sum(axis=2).mean(axis=0)),
    computes(E, "by_entries", "the absolute value of every entry of the product", ORDER + ": nothing can cancel",
             "constructed", lambda context, gradient: np.abs(context * gradient).sum(axis=(2, 3)).mean(axis=0)),
    scaled(E, "per_token", "divided by the number of tokens", "layers that are read at one token look unimportant",
           f"https://github.com/{CODE}/issues/11", value=lambda i, a: 1 / i["context"].shape[2]),
    scaled(E, "summed_examples", "a sum over examples, not a mean", "grows with the data", "constructed",
           value=lambda i, a: float(i["context"].shape[0])),
    scaled(E, "mean_loss", "gradients of the batch's mean loss, which are B times too small",
           "depends on the size of the batch", "constructed", value=lambda i, a: 1 / i["context"].shape[0] ** 2),
    computes(E, "normalised", "divided by the layer's length, as for ranking",
             "heads of one layer only can be compared",
             "huggingface/transformers-research-projects bertology/run_bertology.py: normalised unless told not to",
             lambda context, gradient: _length(_paper(context, gradient))),
    computes(E, "gradient_alone", "the length of the gradient, without the context",
             ORDER + ": one that puts out 0 counts",
             "constructed", lambda context, gradient: np.sqrt((gradient ** 2).sum(axis=(2, 3))).mean(axis=0)),
)
