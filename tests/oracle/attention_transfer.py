"""Attention transfer in PyTorch: maps of each unpadded sequence, an unsquared norm, a mean of squares."""

import torch
from torch.nn.functional import normalize


def _map(hidden):
    """(n, D) -> (n,)."""
    return normalize(hidden.square().mean(dim=1), dim=0)


def _differences(student, teacher, mask):
    return [_map(s[real]) - _map(t[real].detach()) for s, t, real in zip(student, teacher, mask)]


def maps(student, teacher, mask):
    return torch.stack([torch.linalg.vector_norm(d) for d in _differences(student, teacher, mask)]).mean()


def real(student, teacher, mask):
    """The mean of squares over the real tokens."""
    return torch.cat(_differences(student, teacher, mask)).square().mean()


def official(student, teacher, mask):
    """The same over every position, padded or not."""
    return real(student, teacher, torch.ones_like(mask))
