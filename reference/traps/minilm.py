"""MiniLM: how it has been got wrong. There is no published code, so everybody wrote it anew."""

import numpy as np

from tinydistill_reference.mistakes import computes, derives, scaled
from tinydistill_reference.traps.batched import (PADDING_COUNTS, all_entries, averaged, cross_entropy, divergence,
                                                 general, log_softmax, over_queries, product, reverse_kl, squares,
                                                 twice, without_log)

OTHER_WEIGHT = "the weight that the paper gives this loss means something else"


def own(x, teacher_x):
    """What the root is taken of: the side's own head size."""
    return x.shape[3]


def attention(size=own, **wrong):
    """L_AT."""
    def forward(student_queries, student_keys, teacher_queries, teacher_keys, mask):
        return relation(student_queries, student_keys, teacher_queries, teacher_keys, mask, size, wrong)
    return forward


def values(size=own, **wrong):
    """L_VR."""
    def forward(student_values, teacher_values, mask):
        return relation(student_values, student_values, teacher_values, teacher_values, mask, size, wrong)
    return forward


def relation(student_x, student_y, teacher_x, teacher_y, mask, size, wrong):
    return divergence(product(student_x, student_y, size(student_x, teacher_x)),
                      product(teacher_x, teacher_y, size(teacher_x, teacher_x)), mask, **wrong)


def relations(E, form):
    """What both losses share; form(**wrong) makes a forward."""
    return (
        computes(E, "reverse_kl", "KL(student || teacher)", "mode-seeking: tokens that the teacher attends to a little "
                 "are dropped", "https://github.com/paiml/aprender/pull/2153", form(each=reverse_kl)),
        computes(E, "ce_not_kl", "the teacher's entropy is not subtracted", "the same gradient; the loss never nears "
                 "0, and its size says nothing", "https://github.com/jongwooko/distillm/issues/7",
                 form(each=cross_entropy)),
        computes(E, "no_log", "F.kl_div of probabilities, not of their logarithms", "a loss that can be negative, with "
                 "a gradient that hardly depends on the student", "https://github.com/microsoft/ProDA/issues/20",
                 form(each=without_log)),
        computes(E, "no_mask", "padding is neither masked as key nor left out as row", PADDING_COUNTS,
                 "https://github.com/peremartra/optipfair/issues/34",
                 form(keys=np.ones_like, rows=np.ones_like, divisor=lambda mask, A: A * mask.size)),
        computes(E, "padded_keys", "rows of padding are left out, but real rows see padded keys", PADDING_COUNTS,
                 "https://github.com/microsoft/unilm/issues/198", form(keys=np.ones_like)),
        computes(E, "mean_incl_pad", "rows of padding count as 0: a division by T in the place of |x|", "short "
                 "sequences hardly count, the less the longer the batch is padded",
                 "https://github.com/ServiceNow/Fast-LLM/issues/344", form(divisor=lambda mask, A: A * mask.size)),
        computes(E, "mean_over_keys", "F.kl_div with reduction mean: over keys, too", "T times too small",
                 "https://github.com/HikariTJU/LD/issues/74", form(rows=np.ones_like, divisor=all_entries)),
        computes(E, "batchmean", "F.kl_div with reduction batchmean of four axes: only the batch is divided by",
                 "A |x| times too large", "https://github.com/neuralmagic/sparseml/pull/592",
                 form(divisor=lambda mask, A: len(mask))),
        computes(E, "softmax_over_queries", "a softmax along the wrong axis", "columns are compared, which are no "
                 "distributions of anything", "https://github.com/labmlai/annotated_deep_learning_paper_implementations"
                 "/issues/146", form(log_softmax=over_queries)),
        computes(E, "no_scale", "no division by sqrt(K)", "much sharper distributions than the models have",
                 "https://github.com/delzac/cntkx/issues/10", form(size=lambda x, teacher_x: 1)),
        computes(E, "width_not_head", "a division by the root of the width in the place of the head's", "flatter "
                 "distributions than the models have", "https://github.com/lucidrains/vit-pytorch/issues/65",
                 form(size=lambda x, teacher_x: x.shape[1] * x.shape[3])),
        computes(E, "teachers_scale", "the student's scores are divided by the teacher's sqrt(K)", "a student of "
                 "another head size learns relations that are too flat or too sharp", "Wang et al. 2020, equation 8",
                 form(size=lambda x, teacher_x: teacher_x.shape[3])),
        computes(E, "squares", "the mean squared error of probabilities", "where probabilities are small, nothing is "
                 "learnt", "Wang et al. 2020, equations 6 and 9", form(each=squares)),
        computes(E, "heads_averaged", "the mean of the heads is compared", "the student need not have any head of the "
                 "teacher's", "GoblinLord-nuclear/mindclip distill_model/loss_component/attention_probs_kl.py",
                 form(log_softmax=averaged, divisor=lambda mask, A: mask.sum(axis=1, keepdims=True) * len(mask))),
        scaled(E, "sum_over_heads", "a sum over the heads", "A times too large: " + OTHER_WEIGHT, "constructed",
               value=heads, gradient=heads),
        scaled(E, "sum_over_batch", "a sum over the batch", "the learning rate grows with the batch", "constructed",
               value=lambda i, a: len(i["mask"]), gradient=lambda i, a: len(i["mask"])),
    ) + general(E, teacher=form())


def heads(inputs, attrs):
    return next(iter(inputs.values())).shape[1]


def half_way(gradients, inputs, attrs, upstream):
    """dV = G V / sqrt(K): the derivative by the first of the two."""
    student, teacher, mask = inputs["student_values"], inputs["teacher_values"], inputs["mask"]
    K, hidden = student.shape[3], np.where(mask, 0.0, -1e30)[:, None, None, :]
    p, q = (np.exp(log_softmax(product(x, x, x.shape[3]) + hidden)) for x in (teacher, student))
    rows = np.where(mask, upstream / (student.shape[1] * mask.sum(axis=1, keepdims=True) * len(mask)), 0.0)
    dscores = (q - p) * rows[:, None, :, None]
    return {"dstudent_values": dscores @ np.where(mask[:, None, :, None], student, 0) / np.sqrt(K)}


def keys_twice(student_queries, student_keys, teacher_queries, teacher_keys, mask):
    return attention()(student_keys, student_keys, teacher_keys, teacher_keys, mask)


AT, VR = "minilm.attention", "minilm.value_relation"
TRAPS = relations(AT, attention) + (
    computes(AT, "double_softmax", "a softmax of the probabilities once more", "both sides are nearly uniform: the "
             "gradient is small and its direction wrong", "aitsc/GLMKD distill/distill_model.py MiniLM",
             attention(log_softmax=twice)),
    computes(AT, "keys_twice", "keys in the place of queries: MiniLMv2's key relation", "a symmetric relation is "
             "learnt in the place of who attends to whom", "Wang et al. 2020, equation 3", keys_twice),
    derives(AT, "keys_detached", "a backward without the keys' share", "half of the attention never learns",
            "constructed", lambda g, i, a, u: {"dstudent_keys": np.zeros_like(g["dstudent_keys"])}),
) + relations(VR, values) + (
    derives(VR, "dv_half", "a backward of G V / sqrt(K) in the place of (G + G^T) V / sqrt(K)", "values are not told "
            "what other tokens want of them", "constructed", half_way),
    scaled(VR, "averaged_with_attention", "(L_AT + L_VR) / 2", "half of the loss, and of the learning rate",
           "xdpx/losses/minilm.py (of a project whose repository is not confirmed)",
           value=lambda i, a: 0.5, gradient=lambda i, a: 0.5),
)
