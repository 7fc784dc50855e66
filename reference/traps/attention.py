"""Attention and relations: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, ignores_upstream, reads, scaled

ISSUES = "https://github.com/"
PADDING = "padding is attended to, and the result depends on the longest text of the batch"
SHARP = "attention is too sharp, the more so the larger a head is"
FLAT = "attention is too even"


def _softmax(scores, seen=True, axis=-1):
    """0 where nothing is seen."""
    peak = np.where(seen, scores.real, -np.inf).max(axis=axis, keepdims=True)
    e = np.where(seen, np.exp(np.where(seen, scores - np.where(np.isfinite(peak), peak, 0), 0)), 0)
    total = e.sum(axis=axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


def _keys(mask):
    return mask[:, None, None, :]


def _forward(divisor=lambda q, v: np.sqrt(q.shape[3]), rows=lambda s, mask: _softmax(s, _keys(mask))):
    """softmax(Q K^T / divisor) V with another divisor or another softmax."""
    def forward(queries, keys, values, mask):
        return rows(queries @ keys.swapaxes(2, 3) / divisor(queries, values), mask) @ values
    return forward


def _pairs(mask):
    """Real queries with real keys."""
    return mask[:, None, None, :] & mask[:, None, :, None]


def _relation(divisor=lambda x: np.sqrt(x.shape[3]), rows=lambda s, mask: _softmax(s, _pairs(mask))):
    return lambda x, mask: rows(x @ x.swapaxes(2, 3) / divisor(x), mask)


def _dscores(i, u, rows=lambda P, dP: P * (dP - (P * dP).sum(axis=-1, keepdims=True))):
    """dS / sqrt(K) = rows(P, dP) / sqrt(K), with P of the right forward."""
    q, k, v, scale = i["queries"], i["keys"], i["values"], np.sqrt(i["queries"].shape[3])
    return rows(_softmax(q @ k.swapaxes(2, 3) / scale, _keys(i["mask"])), u @ v.swapaxes(2, 3)) / scale


def _of_scores(i, u, rows):
    """The gradients of queries and keys for another dS."""
    dS = _dscores(i, u, rows)
    return {"dqueries": dS @ i["keys"], "dkeys": dS.swapaxes(2, 3) @ i["queries"]}


def _one_side(i, u):
    """dS X / sqrt(d), of which the other half is the transpose's."""
    scale = np.sqrt(i["x"].shape[3])
    P = _softmax(i["x"] @ i["x"].swapaxes(2, 3) / scale, _pairs(i["mask"]))
    return P * (u - (P * u).sum(axis=-1, keepdims=True)) @ i["x"] / scale


def _projected(split):
    """split(y, A) -> (B, A, T, K) of the products with whole weights."""
    def forward(x, heads, **weights):
        return {side: split(x @ weights[f"{name}_weight"].T + weights[f"{name}_bias"], heads)
                for side, name in (("queries", "query"), ("keys", "key"), ("values", "value"))}
    return forward


def _unit(x):
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


E, R, H = "attention", "relation", "project_heads"
TRAPS = (
    computes(E, "no_scale", "scores are not divided by sqrt(K)", SHARP, ISSUES + "mlc-ai/mlc-llm/pull/3426",
             _forward(lambda q, v: 1.0)),
    computes(E, "scale_of_all_heads", "scores are divided by the root of the hidden size", FLAT,
             ISSUES + "lucidrains/vit-pytorch/issues/65", _forward(lambda q, v: np.sqrt(q.shape[1] * q.shape[3]))),
    computes(E, "scale_without_root", "scores are divided by K, not by its root", FLAT,
             ISSUES + "charliezchen/scaling-matrix-preconditioning/issues/2", _forward(lambda q, v: float(q.shape[3]))),
    computes(E, "scale_of_values", "scores are divided by the root of the values' size",
             "right as long as both sizes are one", "constructed", _forward(lambda q, v: np.sqrt(v.shape[3]))),
    computes(E, "scale_after_softmax", "probabilities are scaled, not scores",
             SHARP + ", and its rows add up to 1 / sqrt(K)", ISSUES + "FrancescoSaverioZuppichini/ViT/issues/2",
             _forward(lambda q, v: 1.0, lambda s, mask: _softmax(s, _keys(mask)) / 2.0)),
    computes(E, "wrong_axis", "softmax over the queries, not over the keys", "what a token reads does not add up to 1",
             ISSUES + "labmlai/annotated_deep_learning_paper_implementations/issues/146",
             _forward(rows=lambda s, mask: _softmax(np.broadcast_to(s, s.shape), _keys(mask), axis=-2))),
    reads(E, "no_mask", "a mask of ones", PADDING, ISSUES + "yg211/bert_nli/pull/3",
          mask=lambda i, a: np.ones_like(i["mask"])),
    computes(E, "mask_of_queries", "the mask is laid over queries, not over keys", PADDING,
             ISSUES + "lsdefine/attention-is-all-you-need-keras/issues/16",
             _forward(rows=lambda s, mask: _softmax(s, mask[:, None, :, None]))),
    computes(E, "mask_after_softmax", "softmax over all keys, then 0 at padding",
             "what a token reads does not add up to 1",
             ISSUES + "huggingface/pytorch-image-models/pull/2236",
             _forward(rows=lambda s, mask: _softmax(s) * _keys(mask))),
    computes(E, "mask_times_scores", "scores of padding are set to 0", PADDING,
             ISSUES + "hyunwoongko/transformer/issues/10",
             _forward(rows=lambda s, mask: _softmax(np.where(_keys(mask), s, 0)))),
    computes(E, "mask_minus_10000", "-10000 is added to the scores of padding",
             "padding that scores high is attended to",
             ISSUES + "huggingface/transformers/issues/12109",
             _forward(rows=lambda s, mask: _softmax(s - 10000.0 * ~_keys(mask)))),
    reads(E, "inverted_mask", "the mask is True at padding", "only padding is attended to",
          ISSUES + "lucidrains/halonet-pytorch/pull/6", mask=lambda i, a: ~i["mask"]),
    derives(E, "bwd_without_sum", "a softmax backward without its sum", "scores of a row drift up or down together",
            ISSUES + "HomericIntelligence/Odyssey/issues/2134",
            lambda g, i, a, u: _of_scores(i, u, lambda P, dP: P * dP)),
    derives(E, "bwd_diagonal", "a softmax backward of the diagonal alone", "keys of a row do not compete",
            ISSUES + "Apiquet/DeepLearningFrameworkFromScratchCpp/issues/1",
            lambda g, i, a, u: _of_scores(i, u, lambda P, dP: P * (1 - P) * dP)),
    derives(E, "bwd_without_scale", "the gradients of queries and keys forget 1 / sqrt(K)", "attention learns too fast",
            "constructed",
            lambda g, i, a, u: {n: g[n] * np.sqrt(i["queries"].shape[3]) for n in ("dqueries", "dkeys")}),
    derives(E, "bwd_not_transposed", "dK = dS Q, not dS^T Q", "keys learn what other tokens should", "constructed",
            lambda g, i, a, u: {"dkeys": _dscores(i, u) @ i["queries"]}),
    derives(E, "bwd_detached_scores", "the probabilities count as constant", "queries and keys do not learn",
            "constructed", lambda g, i, a, u: {n: np.zeros_like(g[n]) for n in ("dqueries", "dkeys")}),
    ignores_upstream(E, "ignores_upstream", "a backward that forgets the gradient from above", "outputs pull up alike",
                     "constructed"),
    computes(R, "no_scale", "products are not divided by sqrt(K)", SHARP, ISSUES + "mlc-ai/mlc-llm/pull/3426",
             _relation(lambda x: 1.0)),
    computes(R, "scale_of_all_heads", "products are divided by the root of the hidden size", FLAT,
             ISSUES + "lucidrains/vit-pytorch/issues/65", _relation(lambda x: np.sqrt(x.shape[1] * x.shape[3]))),
    computes(R, "cosine", "products of vectors of length 1", "a token is related to itself by 1, whatever its length",
             "constructed", lambda x, mask: _relation(lambda x: 1.0)(_unit(x), mask)),
    reads(R, "no_mask", "a mask of ones", PADDING, ISSUES + "peremartra/optipfair/issues/34",
          mask=lambda i, a: np.ones_like(i["mask"])),
    computes(R, "mask_after_softmax", "softmax over all tokens, then 0 at padding", "rows do not add up to 1",
             ISSUES + "huggingface/pytorch-image-models/pull/2236",
             _relation(rows=lambda s, mask: _softmax(s) * _pairs(mask))),
    computes(R, "wrong_axis", "softmax over columns", "a transposed relation: its rows do not add up to 1",
             ISSUES + "labmlai/annotated_deep_learning_paper_implementations/issues/146",
             _relation(rows=lambda s, mask: _softmax(s, _pairs(mask), axis=-2))),
    derives(R, "bwd_one_side", "one of the two places of X counts as constant",
            "half of the gradient, and not the same half", "constructed", lambda g, i, a, u: {"dx": _one_side(i, u)}),
    derives(R, "bwd_doubled_side", "2 dS X, as if dS were symmetric", "tokens learn from those that they look at alone",
            "constructed", lambda g, i, a, u: {"dx": 2 * _one_side(i, u)}),
    scaled(R, "bwd_without_scale", "the gradient forgets 1 / sqrt(K)", "weights of the loss mean something else",
           "constructed", gradient=lambda i, a: np.sqrt(i["x"].shape[3])),
    ignores_upstream(R, "ignores_upstream", "a backward that is seeded with ones",
                     "no gradient at all: rows add up to 1", "constructed"),
    computes(H, "interleaved", "numbers of a head are A rows apart, not next to each other",
             "every head of a loaded model reads parts of all", "constructed", _projected(lambda y, A:
             y.reshape(*y.shape[:2], -1, A).transpose(0, 3, 1, 2))),                    # (B, T, K, A) -> (B, A, T, K)
    computes(H, "not_transposed", "a reshape to (B, A, T, K), without a transpose", "tokens and heads are mixed",
             ISSUES + "reczoo/FuxiCTR/issues/30", _projected(lambda y, A: y.reshape(len(y), A, y.shape[1], -1))),
    reads(H, "swapped", "keys and values change places", "what is compared is read, what is read compared",
          "constructed",
          **{f"{one}_{part}": lambda i, a, name=f"{other}_{part}": i[name]
             for one, other in (("key", "value"), ("value", "key")) for part in ("weight", "bias")}),
    reads(H, "no_key_bias", "keys have no bias", "harmless after a softmax, but not in a relation of keys",
          "constructed", key_bias=lambda i, a: np.zeros_like(i["key_bias"])),
    derives(H, "bwd_values_only", "x learns through values only", "who looks where is learned by the projections alone",
            "constructed", lambda g, i, a, u: {"dx": sum(
                u["values"][:, n] @ W for n, W in enumerate(np.split(i["value_weight"], a["heads"])))}),
    derives(H, "bwd_bias_mean", "the biases' gradients are means over the tokens", "biases hardly learn",
            ISSUES + "kvfrans/notes/issues/5", lambda g, i, a, u: {
                n: x * i["x"].shape[2] / i["x"].size for n, x in g.items() if n.endswith("bias")}),
    ignores_upstream(H, "ignores_upstream", "a backward that forgets the gradient from above", "heads are all alike",
                     "constructed"),
)
