"""Distillation losses as they are got wrong in PyTorch, each with one well-known bug.

WRONG: ((equation, flag of the trap that it should be taken for, function under the kit's names), ...). None of it is
the traps' own code: gradients are autograd's, or an autograd.Function's that is wrong.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100


def kl(student, teacher, dim=-1, **settings):
    return F.kl_div(F.log_softmax(student, dim), F.softmax(teacher, dim), **settings)


# ---------------------------------------------------------------- soft labels of classes

def no_T2(student_logits, teacher_logits, temperature):
    return kl(student_logits / temperature, teacher_logits.detach() / temperature, reduction="batchmean")


def T_not_T2(student_logits, teacher_logits, temperature):
    return temperature * no_T2(student_logits, teacher_logits, temperature)


def mean_over_vocabulary(student_logits, teacher_logits, temperature):
    """nn.KLDivLoss() as it is by default."""
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    return nn.KLDivLoss()(log_q, F.softmax(teacher_logits.detach() / temperature, dim=1)) * temperature ** 2


def reverse_kl(student_logits, teacher_logits, temperature):
    teacher_logits = teacher_logits.detach()
    return temperature ** 2 * kl(teacher_logits / temperature, student_logits / temperature, reduction="batchmean")


def no_log(student_logits, teacher_logits, temperature):
    q, p = (F.softmax(x / temperature, dim=1) for x in (student_logits, teacher_logits.detach()))
    return F.kl_div(q, p, reduction="batchmean") * temperature ** 2


def temperature_student_only(student_logits, teacher_logits, temperature):
    return temperature ** 2 * kl(student_logits / temperature, teacher_logits.detach(), reduction="batchmean")


def student_is_teacher(student_logits, teacher_logits, temperature):
    teacher_logits = teacher_logits.detach()
    return temperature ** 2 * no_T2(teacher_logits, teacher_logits, temperature)


def teacher_grad(student_logits, teacher_logits, temperature):
    T = temperature
    return T ** 2 * kl(student_logits / T, teacher_logits / T, reduction="batchmean")


class BackwardWithoutT(torch.autograd.Function):
    """Derived by hand, with one T too many."""

    @staticmethod
    def forward(ctx, student_logits, teacher_logits, temperature=1.0):
        ctx.save_for_backward(student_logits, teacher_logits)
        ctx.T = temperature
        return temperature ** 2 * kl(student_logits / temperature, teacher_logits / temperature, reduction="batchmean")

    @staticmethod
    def backward(ctx, upstream):
        q, p = (F.softmax(x / ctx.T, -1) for x in ctx.saved_tensors)
        return upstream * ctx.T ** 2 * (q - p) / len(q), None, None


class Unseeded(BackwardWithoutT):
    """Right but for the gradient from above."""

    @staticmethod
    def backward(ctx, upstream):
        q, p = (F.softmax(x / ctx.T, -1) for x in ctx.saved_tensors)
        return ctx.T * (q - p) / len(q), None, None


# ---------------------------------------------------------------- soft labels of tokens

def rows(student_logits, teacher_logits, temperature):
    """(B, T)."""
    each = kl(student_logits / temperature, teacher_logits.detach() / temperature, reduction="none")
    return temperature ** 2 * each.sum(-1)


def no_mask(student_logits, teacher_logits, mask, temperature):
    return rows(student_logits, teacher_logits, temperature).mean()


def batchmean_of_sequences(student_logits, teacher_logits, mask, temperature):
    return (rows(student_logits, teacher_logits, temperature) * mask).sum() / student_logits.size(0)


def mean_incl_pad(student_logits, teacher_logits, mask, temperature):
    return (rows(student_logits, teacher_logits, temperature) * mask).mean()


def sum_all_div_valid(student_logits, teacher_logits, mask, temperature):
    return rows(student_logits, teacher_logits, temperature).sum() / mask.sum()


def mean_of_means(student_logits, teacher_logits, mask, temperature):
    each = rows(student_logits, teacher_logits, temperature)
    return torch.stack([x[real].mean() for x, real in zip(each, mask)]).mean()


def softmax_over_positions(student_logits, teacher_logits, mask, temperature):
    """softmax(dim=1), as of rows (B, C), on (B, T, V)."""
    each = kl(student_logits / temperature, teacher_logits.detach() / temperature, dim=1, reduction="none").sum(-1)
    return temperature ** 2 * each[mask].mean()


# ---------------------------------------------------------------- labels

def ignored_counted(student_logits, labels):
    each = F.cross_entropy(student_logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return each.mean()


def unmasked_as_0(student_logits, labels):
    return F.cross_entropy(student_logits.flatten(0, 1), labels.flatten().clamp(min=0))


def double_softmax(student_logits, labels):
    return F.cross_entropy(student_logits.softmax(-1).flatten(0, 1), labels.flatten())


def standard_smoothing(student_logits, labels, smoothing):
    """A target of torch's kind in UniLM's divergence."""
    real = labels > 0                               # neither ignored nor [PAD]
    log_q = F.log_softmax(student_logits[real], -1)
    target = torch.full_like(log_q, smoothing / log_q.size(-1))
    target.scatter_add_(1, labels[real][:, None], torch.full_like(log_q, 1 - smoothing))
    return F.kl_div(log_q, target, reduction="batchmean")


def fairseq_smoothing(student_logits, labels, smoothing):
    """eps / (V - 1) for the others."""
    real = labels != IGNORED
    log_q = F.log_softmax(student_logits[real], -1)
    nll, smooth = -log_q.gather(-1, labels[real][:, None]).squeeze(-1), -log_q.sum(-1)
    each = smoothing / (log_q.size(-1) - 1)
    return ((1 - smoothing - each) * nll + each * smooth).mean()


def span_of_padding(student_logits, labels, mask):
    start, end = student_logits.unbind(-1)
    losses = [F.cross_entropy(x, y, ignore_index=IGNORED, reduction="sum") for x, y in zip((start, end), labels.T)]
    return sum(losses) / (labels != IGNORED).sum().clamp(min=1)


# ---------------------------------------------------------------- hidden states

def cosine_over_positions(student_hidden, teacher_hidden, mask):
    """The default dim of cosine_similarity is 1."""
    return (1 - F.cosine_similarity(student_hidden, teacher_hidden.detach())).mean()


def cosine_of_padding(student_hidden, teacher_hidden, mask):
    return (1 - F.cosine_similarity(student_hidden, teacher_hidden.detach(), dim=-1)).mean()


def mse_of_everything(student_hidden, teacher_hidden, mask):
    return nn.MSELoss()(student_hidden, teacher_hidden.detach())


def hint_by_mse(student_hidden, teacher_hidden, mask, weight, bias):
    return F.mse_loss(F.linear(student_hidden, weight, bias)[mask], teacher_hidden.detach()[mask])


def hint_of_padding(student_hidden, teacher_hidden, mask, weight, bias):
    e = F.linear(student_hidden, weight, bias) - teacher_hidden.detach()
    return e.square().sum(-1).mean() / 2


def hint_without_regressor(student_hidden, teacher_hidden, mask, weight, bias):
    """Made anew in every step, so the optimiser has none of it."""
    projected = F.linear(student_hidden, weight.detach(), bias.detach())[mask]
    return 0.5 * (projected - teacher_hidden.detach()[mask]).pow(2).sum(-1).mean()


def pkd_not_normalised(student_hidden, teacher_hidden, mask):
    return (student_hidden[:, 0] - teacher_hidden[:, 0].detach()).pow(2).sum(-1).mean()


def pkd_last_token(student_hidden, teacher_hidden, mask):
    student, teacher = (F.normalize(x[:, -1], dim=-1) for x in (student_hidden, teacher_hidden.detach()))
    return (student - teacher).pow(2).sum(-1).mean()


def tinybert_frozen_map(student_hidden, teacher_hidden, mask, weight):
    with torch.no_grad():
        frozen = weight.clone()
    square = (student_hidden @ frozen.T - teacher_hidden.detach()).pow(2).mean(-1)
    return ((square * mask).sum(1) / mask.sum(1)).mean()


# ---------------------------------------------------------------- relations

def relation_loss(student_x, student_y, teacher_x, teacher_y, mask, scale=True, dim=-1, wrong=""):
    """MiniLM, batched; right with the settings as they are."""
    K, K_teacher = student_x.size(-1), teacher_x.size(-1)
    student, teacher = student_x @ student_y.mT, (teacher_x @ teacher_y.mT).detach()
    student = student / math.sqrt(K_teacher if wrong == "teachers_scale" else K) if scale else student
    teacher = teacher / math.sqrt(K_teacher) if scale else teacher
    unseen = ~mask[:, None, None, :]
    log_q, log_p = (F.log_softmax(x.masked_fill(unseen, torch.finfo(x.dtype).min), dim) for x in (student, teacher))
    each = (log_p.exp() * (log_p - log_q)).sum(-1)                                      # (B, A, T)
    if wrong == "reverse_kl":
        each = (log_q.exp() * (log_q - log_p)).sum(-1)
    if wrong == "ce_not_kl":
        each = -(log_p.exp() * log_q).sum(-1)
    each = each * mask[:, None]
    if wrong == "mean_incl_pad":
        return each.mean()
    return (each.sum(2) / mask.sum(1, keepdim=True)).mean()


def minilm(**settings):
    def loss(student_queries, student_keys, teacher_queries, teacher_keys, mask):
        return relation_loss(student_queries, student_keys, teacher_queries, teacher_keys, mask, **settings)
    return loss


def values_one_side(student_values, teacher_values, mask):
    return relation_loss(student_values, student_values.detach(), teacher_values, teacher_values, mask)


def scores_of_padding(student_scores, teacher_scores, mask):
    return F.mse_loss(student_scores, teacher_scores.detach())


WRONG = (
    ("soft_labels.classes", "no_T2", no_T2), ("soft_labels.classes", "T_not_T2", T_not_T2),
    ("soft_labels.classes", "mean_over_vocabulary", mean_over_vocabulary),
    ("soft_labels.classes", "reverse_kl", reverse_kl), ("soft_labels.classes", "no_log", no_log),
    ("soft_labels.classes", "temperature_student_only", temperature_student_only),
    ("soft_labels.classes", "student_is_teacher", student_is_teacher),
    ("soft_labels.classes", "teacher_grad", teacher_grad),
    ("soft_labels.classes", "bwd_missing_1_over_T", BackwardWithoutT),
    ("soft_labels.classes", "ignores_upstream", Unseeded),
    ("soft_labels.tokens", "no_mask", no_mask),
    ("soft_labels.tokens", "batchmean_of_sequences", batchmean_of_sequences),
    ("soft_labels.tokens", "mean_incl_pad", mean_incl_pad),
    ("soft_labels.tokens", "sum_all_div_valid", sum_all_div_valid),
    ("soft_labels.tokens", "mean_of_means", mean_of_means),
    ("soft_labels.tokens", "softmax_over_positions", softmax_over_positions),
    ("masked_lm", "mean_incl_unlabelled", ignored_counted), ("masked_lm", "unmasked_as_0", unmasked_as_0),
    ("masked_lm", "double_softmax", double_softmax),
    ("label_smoothing", "eps_over_V_minus_1", fairseq_smoothing),
    ("label_smoothing.unilm", "standard", standard_smoothing),
    ("spans.positions", "padding_takes_part", span_of_padding),
    ("distilbert.cosine", "over_positions", cosine_over_positions), ("distilbert.cosine", "no_mask", cosine_of_padding),
    ("mobilebert.feature_map", "no_mask", mse_of_everything),
    ("fitnets.hint", "mean_over_width", hint_by_mse), ("fitnets.hint", "no_mask", hint_of_padding),
    ("fitnets.hint", "regressor_not_trained", hint_without_regressor),
    ("pkd.patience", "not_normalised", pkd_not_normalised), ("pkd.patience", "last_token", pkd_last_token),
    ("tinybert.hidden", "map_frozen", tinybert_frozen_map), ("tinybert.attention", "no_mask", scores_of_padding),
    ("minilm.attention", "no_scale", minilm(scale=False)),
    ("minilm.attention", "softmax_over_queries", minilm(dim=-2)),
    ("minilm.attention", "teachers_scale", minilm(wrong="teachers_scale")),
    ("minilm.attention", "reverse_kl", minilm(wrong="reverse_kl")),
    ("minilm.attention", "ce_not_kl", minilm(wrong="ce_not_kl")),
    ("minilm.attention", "mean_incl_pad", minilm(wrong="mean_incl_pad")),
    ("minilm.value_relation", "dv_half", values_one_side),
)
