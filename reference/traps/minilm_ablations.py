"""MiniLM's ablations: how they could be got wrong."""

import numpy as np

from tinydistill_reference.minilm_v2 import joined
from tinydistill_reference.mistakes import computes, derives
from tinydistill_reference.traps.batched import (PADDING_COUNTS, cross_entropy, divergence, general, of_rows, per_token,
                                                 product, reverse_kl, rows, without_log)


def scrambled(x):
    """Heads side by side without bringing those of a token together."""
    B, A, T, K = x.shape
    return x.reshape(B, T, A * K)


def value_error(weight=per_token, join=joined, of=lambda e: (e * e).mean(axis=2)):
    """L_MSE."""
    row_weight = weight

    def forward(student_values, teacher_values, mask, weight):
        student, teacher = join(student_values), join(teacher_values)
        return rows(of(student @ weight.T - teacher), mask, row_weight)
    return forward


def hidden_relation(size=lambda h: h.shape[3], **wrong):
    """L_HR."""
    def forward(student_hidden, teacher_hidden, mask):
        s, t = student_hidden[:, None], teacher_hidden[:, None]
        return divergence(product(s, s, size(s)), product(t, t, size(t)), mask, **wrong)
    return forward


def error(inputs, upstream):
    """2 w / D (W v - v^T), (B, T, D)."""
    e = joined(inputs["student_values"]) @ inputs["weight"].T - joined(inputs["teacher_values"])
    return upstream * 2 / e.shape[2] * per_token(inputs["mask"])[:, :, None] * e


def teachers(right, inputs, attrs, upstream):
    B, A, T, K = inputs["teacher_values"].shape
    return -error(inputs, upstream).reshape(B, T, A, K).transpose(0, 2, 1, 3)


def padded_map(right, inputs, attrs, upstream):
    """dW with the rows of padding in it."""
    e = joined(inputs["student_values"]) @ inputs["weight"].T - joined(inputs["teacher_values"])
    e = upstream * 2 / e.shape[2] / inputs["mask"].sum(axis=1)[:, None, None] / len(e) * e
    return {"dweight": np.einsum("btd,bte->de", e, joined(inputs["student_values"]))}


def half_way(right, inputs, attrs, upstream):
    """dH = G H / sqrt(D)."""
    s, t, mask = inputs["student_hidden"], inputs["teacher_hidden"], inputs["mask"]

    def relation(h):
        z = h @ h.swapaxes(1, 2) / np.sqrt(h.shape[2]) + np.where(mask, 0.0, -1e30)[:, None, :]
        e = np.exp(z - z.max(axis=2, keepdims=True))
        return e / e.sum(axis=2, keepdims=True)

    g = upstream * (relation(s) - relation(t)) * per_token(mask)[:, :, None]
    return {"dstudent_hidden": g @ np.where(mask[:, :, None], s, 0) / np.sqrt(s.shape[2])}


V, H = "minilm.value_mse", "minilm.hidden_relation"
TRAPS = of_rows(V, value_error, lambda i: len(i["weight"])) + general(V, teacher={"dteacher_values": teachers}) + (
    computes(V, "heads_scrambled", "heads put side by side without bringing those of a token together", "pieces of "
             "several tokens are mapped to pieces of others",
             "https://github.com/jsbaan/transformer-from-scratch/pull/6", value_error(join=scrambled)),
    computes(V, "absolute", "the mean absolute error", "a gradient that does not shrink with the error",
             "Wang et al. 2020, section 4", value_error(of=lambda e: (e * np.sign(e.real)).mean(axis=2))),
    derives(V, "map_frozen", "the map gets no gradient: it stays as it was drawn", "the student learns to fit a random "
            "map", "https://github.com/huawei-noah/Pretrained-Language-Model/issues/44",
            lambda g, i, a, u: {"dweight": np.zeros_like(g["dweight"])}),
    derives(V, "map_sees_padding", "rows of padding in the gradient of the map", PADDING_COUNTS, "constructed",
            padded_map),
    derives(V, "missing_2", "a backward without the 2 of the square", "half of the learning rate", "constructed",
            lambda g, i, a, u: {name: x / 2 for name, x in g.items()}),
    computes(H, "reverse_kl", "KL(student || teacher)", "mode-seeking: tokens that are a little related in the teacher "
             "are dropped", "https://github.com/paiml/aprender/pull/2153", hidden_relation(each=reverse_kl)),
    computes(H, "ce_not_kl", "the teacher's entropy is not subtracted", "the same gradient; the loss never nears 0",
             "https://github.com/jongwooko/distillm/issues/7", hidden_relation(each=cross_entropy)),
    computes(H, "no_log", "F.kl_div of probabilities, not of their logarithms", "a loss that can be negative, with a "
             "gradient that hardly depends on the student", "https://github.com/microsoft/ProDA/issues/20",
             hidden_relation(each=without_log)),
    computes(H, "no_scale", "no division by sqrt(D)", "a relation of one token to itself, which teaches nothing",
             "https://github.com/delzac/cntkx/issues/10", hidden_relation(size=lambda h: 1)),
    computes(H, "no_mask", "padding is neither masked as key nor left out as row", PADDING_COUNTS,
             "https://github.com/peremartra/optipfair/issues/34",
             hidden_relation(keys=np.ones_like, rows=np.ones_like, divisor=lambda mask, A: mask.size)),
    computes(H, "mean_incl_pad", "rows of padding count as 0: a division by T in the place of |x|", "short sequences "
             "hardly count", "https://github.com/ServiceNow/Fast-LLM/issues/344",
             hidden_relation(divisor=lambda mask, A: mask.size)),
    computes(H, "token_mean", "one mean over the real tokens of the batch", "a long sequence weighs more than a short "
             "one", "constructed", hidden_relation(divisor=lambda mask, A: mask.sum())),
    derives(H, "dh_half", "a backward of G H / sqrt(D) in the place of (G + G^T) H / sqrt(D)", "tokens are not told "
            "what others want of them", "constructed", half_way),
) + general(H, teacher=hidden_relation())
