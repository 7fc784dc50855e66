"""Soft labels in PyTorch, as the published code that each convention is named after computes them."""

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, softmax


def _rows(student, teacher, mask):
    return student[mask], teacher[mask].detach()


def batchmean(student, teacher, mask, labelled, T):
    """KLDivLoss of the rows that count, over their number."""
    student, teacher = _rows(student, teacher, mask)
    return kl_div(log_softmax(student / T, -1), softmax(teacher / T, -1), reduction="batchmean")


def paper(student, teacher, mask, labelled, T):
    return batchmean(student, teacher, mask, labelled, T) * T ** 2


def restricted(student, teacher, mask, labelled, T):
    return paper(student, teacher, labelled, labelled, T)


def pkd(student, teacher, mask, labelled, T):
    student, teacher = _rows(student, teacher, mask)
    return kl_div(log_softmax(student / T, -1), softmax(teacher / T, -1), reduction="none").mean() * T ** 2


def textbrewer(student, teacher, mask, labelled, T):
    """cross_entropy with probabilities as targets is -sum p log q, a mean over rows."""
    student, teacher = _rows(student, teacher, mask)
    return cross_entropy(student / T, softmax(teacher / T, -1))


def tinybert(student, teacher, mask, labelled, T):
    student, teacher = _rows(student, teacher, mask)
    return (-softmax(teacher / T, -1) * log_softmax(student / T, -1)).mean()


TOKENS = {"paper": paper, "distilbert": paper, "textbrewer": textbrewer, "tinybert": tinybert, "pkd": pkd,
          "torchdistill": batchmean, "labelled": restricted}


def tang(student, teacher, mask, T):
    """||z^T - z^S||^2, a mean over rows."""
    student, teacher = _rows(student, teacher, mask)
    return torch.linalg.vector_norm((student - teacher) / T, dim=-1).square().mean()


def mean_over_classes(student, teacher, mask, T):
    student, teacher = _rows(student, teacher, mask)
    return mse_loss(student / T, teacher / T)


LOGITS = {"paper": tang, "official": mean_over_classes, "textbrewer": mean_over_classes}


def span(student, teacher, mask, T, padding):
    """Sequence by sequence, start and end apart. Shapes: (B, T, 2)."""
    total = 0
    for b, real in enumerate(mask):
        seen = torch.ones_like(real) if padding else real
        for side in (0, 1):
            rows = [x[b, seen, side][None] for x in (student, teacher.detach())]
            total = total + paper(*rows, torch.ones(1, dtype=bool), None, T) / 2
    return total / len(mask)


def with_hard_labels(student, teacher, labels, alpha, T):
    return alpha * cross_entropy(student, labels) + (1 - alpha) * paper(student, teacher, slice(None), None, T)
