"""Both kinds of label smoothing in PyTorch: its own, and a target distribution made by hand."""

import torch
from torch.nn.functional import cross_entropy, kl_div


def standard(logits, labels, eps):
    return cross_entropy(logits, labels, ignore_index=-100, label_smoothing=eps)


def unilm(logits, labels, eps, pad=0, added=0.0):
    rows = (labels != -100) & (labels != pad)
    N, V = int(rows.sum()), logits.shape[1]
    target = torch.full((N, V), eps / (V - 2), dtype=logits.dtype)
    target[:, pad] = 0
    target.scatter_(1, labels[rows][:, None], 1 - eps)
    return kl_div(logits[rows].log_softmax(-1), target, reduction="sum") / (N + added)
