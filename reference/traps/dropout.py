"""Dropout: how it has been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads


def _parts(bits, rate):
    """k and s."""
    r = round(rate * 65536)
    return bits >= r, 1 - r / 65536


def _with(change):
    """A forward of x, k and s."""
    return lambda x, bits, rate: change(x, *_parts(bits, rate))


def _derived(change):
    return lambda g, i, a, u: {"dx": change(u, *_parts(i["bits"], a["rate"]))}


def _softmax(scores, mask):
    keys = mask[:, None, None, :]
    e = np.where(keys, np.exp(np.where(keys, scores, 0)), 0)
    return e / e.sum(axis=-1, keepdims=True)


def _attention(of_probabilities=lambda P, k, s: P * k / s, of_scores=lambda S, k, s: S):
    """A forward that drops elsewhere, or otherwise."""
    def forward(queries, keys, values, mask, bits, rate):
        k, s = _parts(bits, rate)
        S = queries @ keys.swapaxes(2, 3) / np.sqrt(queries.shape[3])
        return of_probabilities(_softmax(of_scores(S, k, s), mask), k, s) @ values
    return forward


def _again(P, k, s):
    """What is left of a row, made to add up to 1."""
    left = (P * k).sum(axis=-1, keepdims=True)
    return P * k / np.where(left == 0, 1, left)


def _of_scores(g, i, a, u):
    """dP = dY V^T, not dropped."""
    q, keys, scale = i["queries"], i["keys"], np.sqrt(i["queries"].shape[3])
    P, dP = _softmax(q @ keys.swapaxes(2, 3) / scale, i["mask"]), u @ i["values"].swapaxes(2, 3)
    dS = P * (dP - (P * dP).sum(axis=-1, keepdims=True)) / scale
    return {"dqueries": dS @ keys, "dkeys": dS.swapaxes(2, 3) @ q}


def _of_values(g, i, a, u):
    """dV = P^T dY, not dropped."""
    P = _softmax(i["queries"] @ i["keys"].swapaxes(2, 3) / np.sqrt(i["queries"].shape[3]), i["mask"])
    return {"dvalues": P.swapaxes(2, 3) @ u}


E, A = "dropout", "attention_dropout"
LARGER = "outputs are smaller in training than when the model is used"
TRAPS = (
    computes(E, "not_scaled", "what is kept is not divided by its probability", LARGER, "constructed",
             _with(lambda x, k, s: x * k)),
    computes(E, "scaled_by_rate", "what is kept is divided by the rate", "right at a rate of one half only",
             "https://github.com/rasbt/LLMs-from-scratch/issues/431",
             _with(lambda x, k, s: x * k / (1 - s if s < 1 else 1))),
    computes(E, "scaled_by_share", "what is kept is divided by the share that was kept",
             "outputs depend on how many others happened to be kept", "constructed",
             _with(lambda x, k, s: x * k / k.mean(dtype=x.real.dtype))),
    reads(E, "at_threshold", "bits at the threshold are dropped, too", "1/65536 more is dropped than was asked for",
          "constructed", bits=lambda i, a: i["bits"] - 1),
    reads(E, "inverted", "what should be kept is dropped", "nearly everything is dropped at a small rate",
          "constructed", bits=lambda i, a: 65535 - i["bits"]),
    derives(E, "bwd_without_mask", "a backward that drops nothing", "units learn that took no part",
            "https://github.com/ddbourgin/numpy-ml/issues/94", _derived(lambda u, k, s: u / s)),
    derives(E, "bwd_not_scaled", "a backward that does not divide", "the gradient is too small", "constructed",
            _derived(lambda u, k, s: u * k)),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above",
                     "weights of the loss have no effect", "constructed"),
    reads(A, "no_dropout", "nothing is dropped, but all is scaled", "outputs are too large in training", "constructed",
          bits=lambda i, a: np.full_like(i["bits"], 65535)),
    computes(A, "not_scaled", "what is kept is not divided by its probability", LARGER, "constructed",
             _attention(lambda P, k, s: P * k)),
    computes(A, "made_to_add_up", "rows are made to add up to 1 again", "another dropout, which leaves no row smaller",
             "constructed", _attention(_again)),
    computes(A, "before_softmax", "scores are dropped, not probabilities",
             "what is dropped is attended to as if its score were 0", "constructed",
             _attention(lambda P, k, s: P, lambda S, k, s: S * k / s)),
    derives(A, "bwd_of_scores", "the gradient of the probabilities is not dropped",
            "queries and keys learn from what took no part", "constructed", _of_scores),
    derives(A, "bwd_of_values", "dV = P^T dY, without dropout", "values learn that nobody read", "constructed",
            _of_values),
    ignores_upstream(A, "ignores_upstream", "a backward that forgets the gradient from above", "outputs pull up alike",
                     "constructed"),
)
