"""MobileBERT: how it has been got wrong, by its authors first."""

import numpy as np

from tinydistill_reference.conventions import IGNORED
from tinydistill_reference.mistakes import computes, derives, scaled, sets
from tinydistill_reference.mobilebert import EPS
from tinydistill_reference.traps.batched import (PADDING_COUNTS, TEXTBREWER, all_entries, averaged, cross_entropy,
                                                 divergence, general, log_softmax, of_rows, over_queries, per_token,
                                                 reverse_kl, rows, twice, without_log)

CODE = "google-research/google-research mobilebert/"
ONE_PASS = "https://github.com/pytorch/pytorch/issues/51102"
UNBIASED = "https://github.com/harvardnlp/annotated-transformer/pull/119"


# ---------------------------------------------------------------- feature maps

def mean(x):
    return x.mean(axis=2, keepdims=True)


def variance(x):
    return mean((x - mean(x)) ** 2)


def in_one_pass(x):
    return mean(x * x) - mean(x) ** 2


def unbiased(x):
    return variance(x) * x.shape[2] / (x.shape[2] - 1)


def normal(variance=variance, root=lambda v: np.sqrt(v + EPS)):
    return lambda x: (x - mean(x)) / root(variance(x))


def magnitude(d):
    return d * np.sign(d.real)


def hidden(seen, teacher=None, of=lambda d: d * d, weight=per_token):
    """A mean over rows of the mean of of(seen(H^S) - seen(H^T)) within them."""
    def forward(student_hidden, teacher_hidden, mask):
        d = seen(student_hidden) - (teacher or seen)(teacher_hidden)
        return rows(of(d).mean(axis=2), mask, weight)
    return forward


def form_of(seen, of=lambda d: d * d):
    return lambda weight=per_token: hidden(seen, of=of, weight=weight)


def over_tokens(x):
    """A layer norm along the wrong axis."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred ** 2).mean(axis=1, keepdims=True) + EPS)


def statistics_detached(right, inputs, attrs, upstream):
    """dL/dH = g / std, g the gradient of the normalised."""
    s, t, mask = inputs["student_hidden"], inputs["teacher_hidden"], inputs["mask"]
    g = of_map(upstream, normal()(s), normal()(t), mask)
    return {"dstudent_hidden": np.where(mask[:, :, None], g / np.sqrt(variance(s) + EPS), 0.0)}


def teachers(forward):
    """Of a loss that is symmetric: its gradient for the student, with the two exchanged."""
    return {"dteacher_hidden": lambda right, i, a, u: forward(u, i["teacher_hidden"], i["student_hidden"], i["mask"])}


def of_map(u, s, t, mask):
    return u * 2 / s.shape[2] * per_token(mask)[:, :, None] * (s - t)


def of_normal(u, s, t, mask):
    x, g = normal()(s), of_map(u, normal()(s), normal()(t), mask)
    return (g - mean(g) - x * mean(g * x)) / np.sqrt(variance(s) + EPS)


def of_mean(u, s, t, mask):
    return u * 2 / s.shape[2] * per_token(mask)[:, :, None] * (mean(s) - mean(t)) + 0 * s


def of_variance(u, s, t, mask):
    return u * 2 / s.shape[2] * per_token(mask)[:, :, None] * np.sign(variance(s) - variance(t)) * (s - mean(s))


def width(inputs):
    return inputs["student_hidden"].shape[2]


def half(E):
    return derives(E, "missing_2", "a backward without the 2 of the square", "half of the learning rate", "constructed",
                   lambda g, i, a, u: {name: x / 2 for name, x in g.items()})


def sign_forgotten(right, inputs, attrs, upstream):
    d = variance(inputs["student_hidden"]) - variance(inputs["teacher_hidden"])
    return {"dstudent_hidden": right["dstudent_hidden"] * np.sign(d)}


F, N = "mobilebert.feature_map", "mobilebert.feature_map_normalised"
M, V = "mobilebert.mean_transfer", "mobilebert.variance_transfer"
MAPS = of_rows(F, form_of(lambda x: x), width) + general(F, teacher=teachers(of_map)) + (
    computes(F, "no_mask", "a mean over everything, padding included", PADDING_COUNTS, CODE + "run_pretraining.py",
             hidden(lambda x: x, weight=lambda mask: np.full(mask.shape, 1 / mask.size))),
    computes(F, "normalised", "a layer norm of both comes first, as in the published code", "mean and variance are "
             "left to the other two losses", CODE + "run_pretraining.py feature_map_transfer_loss", hidden(normal())),
    computes(F, "absolute", "the mean absolute error", "a gradient that does not shrink with the error",
             "Sun et al. 2020, feature map transfer", hidden(lambda x: x, of=magnitude)),
    half(F),
)
NORMALISED = of_rows(N, form_of(normal()), width) + general(N, teacher=teachers(of_normal)) + (
    computes(N, "not_normalised", "H itself, as the paper writes", "mean and variance count twice, here and in the "
             "other two", "Sun et al. 2020, feature map transfer", hidden(lambda x: x)),
    computes(N, "eps_1e-5", "1e-5 in the place of 1e-12", "rows of small variance are flattened",
             "huggingface/transformers models/mobilebert/modeling_mobilebert.py",
             hidden(normal(root=lambda v: np.sqrt(v + 1e-5)))),
    computes(N, "eps_outside_root", "sqrt(var) + 1e-12", "a row without variance is divided by 1e-12, not 1e-6",
             "https://github.com/tracel-ai/burn/issues/2185", hidden(normal(root=lambda v: np.sqrt(v) + EPS))),
    computes(N, "unbiased_variance", "a variance over N - 1", "rows of length sqrt(N - 1)", UNBIASED,
             hidden(normal(variance=unbiased))),
    computes(N, "one_pass_variance", "E[x^2] - E[x]^2", "no digit is right where the mean is large", ONE_PASS,
             hidden(normal(variance=in_one_pass, root=lambda v: np.sqrt(np.where(v.real > 0, v, 0) + EPS)))),
    computes(N, "over_tokens", "a layer norm along the axis of the tokens", "a token's loss depends on the others, and "
             "on padding", "constructed", hidden(over_tokens)),
    computes(N, "teacher_not_normalised", "only the student is normalised", "a target that the student cannot reach",
             "constructed", hidden(normal(), teacher=lambda x: x)),
    computes(N, "by_variance", "a division by the variance, not its root", "large rows become small", "constructed",
             hidden(normal(root=lambda v: v + EPS))),
    derives(N, "statistics_detached", "a backward that takes mean and variance for constants", "mean and variance "
            "drift, though the loss does not depend on them", "https://github.com/tinygrad/tinygrad/pull/4904",
            statistics_detached),
)
MEANS = of_rows(M, form_of(mean)) + general(M, teacher=teachers(of_mean)) + (
    computes(M, "sum_not_mean", "the sum of a token's numbers", "N^2 times too large", "constructed",
             hidden(lambda x: x.sum(axis=2, keepdims=True))),
    computes(M, "absolute", "the absolute difference, as the variances have it", "a gradient that does not shrink with "
             "the error", CODE + "run_pretraining.py beta_distill_loss", hidden(mean, of=magnitude)),
    computes(M, "over_tokens", "the mean over tokens", "another statistic, in which padding counts", "constructed",
             hidden(lambda x: x.mean(axis=1, keepdims=True) + 0 * x)),
    derives(M, "bwd_missing_1_over_N", "a backward without 1/N", "N times the learning rate", "constructed",
            lambda g, i, a, u: {"dstudent_hidden": g["dstudent_hidden"] * width(i)}),
    half(M),
)
VARIANCES = of_rows(V, form_of(variance, magnitude)) + general(V, teacher=teachers(of_variance)) + (
    computes(V, "squared", "the squared difference, as the means have it", "far layers pull more than the weight of 5 "
             "was made for", CODE + "run_pretraining.py gamma_distill_loss", hidden(variance)),
    computes(V, "unbiased_variance", "a variance over N - 1", "N / (N - 1) times too large", UNBIASED,
             hidden(unbiased, of=magnitude)),
    computes(V, "deviation", "standard deviations in the place of variances", "large variances count less",
             "Sun et al. 2020, feature map transfer", hidden(lambda x: np.sqrt(variance(x) + 1e-300), of=magnitude)),
    computes(V, "one_pass_variance", "E[x^2] - E[x]^2", "no digit is right where the mean is large", ONE_PASS,
             hidden(in_one_pass, of=magnitude)),
    computes(V, "not_centred", "E[x^2]", "the mean counts twice, here and in its own loss", "constructed",
             hidden(lambda x: mean(x * x), of=magnitude)),
    computes(V, "sum_not_mean", "the sum of squares, not their mean", "N times too large", "constructed",
             hidden(lambda x: variance(x) * x.shape[2], of=magnitude)),
    derives(V, "sign_forgotten", "a backward that takes |x| for x", "a student of too little variance gets still less",
            "https://github.com/mlpack/mlpack/pull/2203", sign_forgotten),
    derives(V, "no_gradient", "a backward that stops at the absolute value", "the loss is reported, and nothing learns",
            "https://github.com/paiml/aprender/pull/2188",
            lambda g, i, a, u: {"dstudent_hidden": 0 * g["dstudent_hidden"]}),
    half(V),
)


# ---------------------------------------------------------------- attention

def scores(**wrong):
    return lambda student_scores, teacher_scores, mask: divergence(student_scores, teacher_scores, mask, **wrong)


def soft_mask(student_scores, teacher_scores, mask):
    """Padded keys are lowered by 6, and stay."""
    lowered = np.where(mask, 0.0, -6.0)[:, None, None, :]
    return divergence(student_scores + lowered, teacher_scores + lowered, mask, keys=np.ones_like)


A = "mobilebert.attention"
ATTENTION = general(A, teacher=scores()) + (
    computes(A, "ce_not_kl", "the teacher's entropy is not subtracted", "the same gradient; the loss never nears 0",
             CODE + "run_pretraining.py attention_transfer_loss", scores(each=cross_entropy)),
    computes(A, "soft_mask", "padded keys are lowered by 6 in the place of being left out", "they keep a weight of "
             "about e^-6 each, and more where their scores are large", CODE + "modeling.py", soft_mask),
    computes(A, "no_mask", "padding is neither masked as key nor left out as row", PADDING_COUNTS,
             "https://github.com/peremartra/optipfair/issues/34",
             scores(keys=np.ones_like, rows=np.ones_like, divisor=lambda mask, A: A * mask.size)),
    computes(A, "padded_keys", "rows of padding are left out, but real rows see padded keys", PADDING_COUNTS,
             TEXTBREWER + " att_ce_loss", scores(keys=np.ones_like)),
    computes(A, "heads_averaged", "the mean of the heads is compared", "the student need not have any head of the "
             "teacher's", TEXTBREWER + " att_ce_mean_loss",
             scores(log_softmax=averaged, divisor=lambda mask, A: mask.sum(axis=1, keepdims=True) * len(mask))),
    computes(A, "reverse_kl", "KL(student || teacher)", "mode-seeking: tokens that the teacher attends to a little are "
             "dropped", "https://github.com/paiml/aprender/pull/2153", scores(each=reverse_kl)),
    computes(A, "no_log", "F.kl_div of probabilities, not of their logarithms", "a gradient that hardly depends on the "
             "student", "https://github.com/microsoft/ProDA/issues/20", scores(each=without_log)),
    computes(A, "double_softmax", "a softmax of the probabilities once more", "both sides are nearly uniform",
             "aitsc/GLMKD distill/distill_model.py MiniLM", scores(log_softmax=twice)),
    computes(A, "softmax_over_queries", "a softmax along the wrong axis", "columns are no distributions of anything",
             "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/146",
             scores(log_softmax=over_queries)),
    computes(A, "mean_over_keys", "F.kl_div with reduction mean: over keys, too", "T times too small",
             "https://github.com/HikariTJU/LD/issues/74", scores(rows=np.ones_like, divisor=all_entries)),
    computes(A, "mean_incl_pad", "rows of padding count as 0: a division by T", "short sequences hardly count",
             "https://github.com/ServiceNow/Fast-LLM/issues/344", scores(divisor=lambda mask, A: A * mask.size)),
    scaled(A, "sum_over_heads", "a sum over the heads", "A times too large", "constructed",
           value=lambda i, a: i["student_scores"].shape[1], gradient=lambda i, a: i["student_scores"].shape[1]),
)


# ---------------------------------------------------------------- pre-training

def target_of(teacher_logits, labels, g):
    onehot = np.zeros(teacher_logits.shape)
    onehot[labels != IGNORED, labels[labels != IGNORED]] = 1
    return (1 - g) * np.exp(log_softmax(teacher_logits)) + g * onehot


def labelled(labels):
    return labels != IGNORED


def tokens(target=target_of, temperature=1.0, counted=labelled, divisor=lambda labels: labelled(labels).sum()):
    def forward(student_logits, teacher_logits, labels, ground_truth):
        log_q = log_softmax(student_logits / temperature)
        each = -(target(teacher_logits / temperature, labels, ground_truth) * log_q).sum(axis=1)
        return np.where(counted(labels), each, 0).sum() / divisor(labels)
    return forward


def less_entropy(student_logits, teacher_logits, labels, ground_truth):
    log_p = log_softmax(teacher_logits)
    entropy = -(np.exp(log_p) * log_p).sum(axis=1)[labels != IGNORED].mean()
    return tokens()(student_logits, teacher_logits, labels, ground_truth) - (1 - ground_truth) * entropy


def teachers_logits(right, inputs, attrs, upstream):
    """(1 - g) p (f - <p, f>) / N, f = -log q."""
    labels = inputs["labels"]
    p, f = np.exp(log_softmax(inputs["teacher_logits"])), -log_softmax(inputs["student_logits"])
    g = (1 - attrs["ground_truth"]) * p * (f - (p * f).sum(axis=1, keepdims=True))
    return np.where(labels[:, None] != IGNORED, upstream * g / (labels != IGNORED).sum(), 0)


P = "mobilebert.pretraining"
PRETRAINING = general(P, teacher={"dteacher_logits": teachers_logits}) + (
    sets(P, "labels_only", "the labels alone: the flag's default", "nothing is distilled in the last phase",
         CODE + "run_pretraining.py distill_ground_truth_ratio, 1.0 by default", ground_truth=1.0),
    sets(P, "shares_exchanged", "ground_truth is taken for the teacher's share", "the other one leads, unless both "
         "have half", "constructed", ground_truth=lambda i, a: 1 - a.get("ground_truth", 0.5)),
    computes(P, "all_rows", "the teacher's half is taken at every position, not at masked ones", "most of the loss is "
             "about words that both can see", "https://github.com/huggingface/transformers/issues/2759",
             tokens(counted=lambda labels: np.ones_like(labels) == 1, divisor=len)),
    computes(P, "divided_by_rows", "a division by all rows", "smaller, the fewer tokens were masked",
             "https://github.com/ServiceNow/Fast-LLM/issues/344", tokens(divisor=len)),
    computes(P, "kl_not_ce", "the teacher's entropy is subtracted", "the same gradient, another value", "constructed",
             less_entropy),
    computes(P, "hard_teacher", "the teacher's first choice in the place of its distribution", "no dark knowledge",
             "Sun et al. 2020, pre-training distillation",
             tokens(lambda z, labels, g: (1 - g) * (z.real == z.real.max(axis=1, keepdims=True))
                    + target_of(z, labels, g) - (1 - g) * np.exp(log_softmax(z)))),
    computes(P, "softened", "a temperature of 2", "a loss of smoother distributions, without T^2",
             "Sun et al. 2020, pre-training distillation", tokens(temperature=2.0)),
    computes(P, "mean_over_vocabulary", "a mean over rows and words", "V times too small",
             "https://github.com/GMvandeVen/continual-learning/issues/5",
             lambda student_logits, **x: tokens()(student_logits, **x) / student_logits.shape[1]),
    derives(P, "onehot_forgotten", "a backward of q - p, without the labels' share", "the labels are only reported",
            "constructed", lambda g, i, a, u: {"dstudent_logits": np.where(
                i["labels"][:, None] != IGNORED, u / (i["labels"] != IGNORED).sum()
                * (np.exp(log_softmax(i["student_logits"])) - np.exp(log_softmax(i["teacher_logits"]))), 0)}),
)
TRAPS = MAPS + NORMALISED + MEANS + VARIANCES + ATTENTION + PRETRAINING
