"""MiniLMv2: how it has been got wrong."""

import numpy as np

from tinydistill_reference.minilm_v2 import relation_heads as right_heads
from tinydistill_reference.mistakes import computes, derives, scaled
from tinydistill_reference.traps.batched import (PADDING_COUNTS, all_entries, cross_entropy, divergence, general,
                                                 product, reverse_kl, without_log)


def scrambled(x, R):
    """(B, A, T, K) reshaped straight to (B, R, T, D/R): parts of several tokens in one."""
    B, A, T, K = x.shape
    return x.reshape(B, R, T, A * K // R)


def form(field, heads=right_heads, size=lambda x, R: x.shape[1] * x.shape[3] // R, **wrong):
    """L_XX; size(x, R): what the root is taken of, of x (B, A, T, K)."""
    def forward(mask, relation_heads, **inputs):
        student, teacher = inputs[f"student_{field}"], inputs[f"teacher_{field}"]
        scores = [product(x, x, size(side, relation_heads)) for side, x in
                  ((side, heads(side, relation_heads)) for side in (student, teacher))]
        return divergence(*scores, mask, **wrong)
    return forward


def everywhere(field):
    """What is found in one of queries, keys and values as in the others."""
    E = f"minilm_v2.{field}"
    return (
        computes(E, "heads_scrambled", "heads are cut anew without joining those of a token first", "a relation of "
                 "pieces of several tokens, that no other model has", "https://github.com/microsoft/unilm/issues/354",
                 form(field, heads=scrambled)),
        computes(E, "no_mask", "padding is neither masked as key nor left out as row", PADDING_COUNTS,
                 "aitsc/GLMKD distill/distill_model.py MiniLMv2",
                 form(field, keys=np.ones_like, rows=np.ones_like, divisor=lambda mask, A: A * mask.size)),
        computes(E, "reverse_kl", "KL(student || teacher)", "mode-seeking: tokens that are a little related in the "
                 "teacher are dropped", "https://github.com/paiml/aprender/pull/2153", form(field, each=reverse_kl)),
        computes(E, "attention_heads_scale", "a division by the root of an attention head's size in the place of a "
                 "relation head's", "distributions that are too flat or too sharp, for each model differently", "Wang "
                 "et al. 2021, section 3", form(field, size=lambda x, R: x.shape[3])),
    ) + general(E)


def half_way(gradients, inputs, attrs, upstream):
    """Half of a gradient that is symmetric only in the sum: G X / sqrt(d_r)."""
    x, t, mask, R = inputs["student_queries"], inputs["teacher_queries"], inputs["mask"], attrs["relation_heads"]
    s, t = right_heads(x, R), right_heads(t, R)
    hidden = np.where(mask, 0.0, -1e30)[:, None, None, :]

    def relation(y):
        z = product(y, y, y.shape[3]) + hidden
        e = np.exp(z - z.max(axis=3, keepdims=True))
        return e / e.sum(axis=3, keepdims=True)

    w = np.where(mask, upstream / (R * mask.sum(axis=1, keepdims=True) * len(mask)), 0.0)
    dscores = (relation(s) - relation(t)) * w[:, None, :, None]
    dx = dscores @ np.where(mask[:, None, :, None], s, 0) / np.sqrt(s.shape[3])
    return {"dstudent_queries": right_heads(dx, x.shape[1])}


Q = "minilm_v2.queries"
TRAPS = everywhere("queries") + (
    computes(Q, "ce_not_kl", "the teacher's entropy is not subtracted", "the same gradient; the loss never nears 0",
             "https://github.com/jongwooko/distillm/issues/7", form("queries", each=cross_entropy)),
    computes(Q, "no_log", "F.kl_div of probabilities, not of their logarithms", "a loss that can be negative, with a "
             "gradient that hardly depends on the student", "https://github.com/microsoft/ProDA/issues/20",
             form("queries", each=without_log)),
    computes(Q, "no_scale", "no division by the root", "much sharper distributions than the models have",
             "https://github.com/delzac/cntkx/issues/10", form("queries", size=lambda x, R: 1)),
    computes(Q, "padded_keys", "rows of padding are left out, but real rows see padded keys", PADDING_COUNTS,
             "https://github.com/microsoft/unilm/issues/198", form("queries", keys=np.ones_like)),
    computes(Q, "mean_over_keys", "F.kl_div with reduction mean: over keys, too", "T times too small",
             "https://github.com/HikariTJU/LD/issues/74", form("queries", rows=np.ones_like, divisor=all_entries)),
    computes(Q, "one_head", "the whole width as one relation head", "what heads see apart is lost",
             "https://github.com/microsoft/unilm/issues/349",
             lambda relation_heads, **x: form("queries")(relation_heads=1, **x)),
    scaled(Q, "a_third", "the three losses are averaged, not added up", "a third of the loss, and of the learning rate",
           "bloomberg/minilmv2.bb minilmv2/minilmv2.py, the weights in its example", value=lambda i, a: 1 / 3,
           gradient=lambda i, a: 1 / 3),
    derives(Q, "dx_half", "a backward of G X / sqrt(d_r) in the place of (G + G^T) X / sqrt(d_r)", "tokens are not "
            "told what others want of them", "constructed", half_way),
    scaled(Q, "sum_over_heads", "a sum over the relation heads", "R times too large", "constructed",
           value=lambda i, a: a["relation_heads"], gradient=lambda i, a: a["relation_heads"]),
) + everywhere("keys") + everywhere("values")
