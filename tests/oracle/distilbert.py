"""DistilBERT's own terms in PyTorch: CosineEmbeddingLoss and a sum of squares."""

import torch
from torch.nn.functional import cosine_embedding_loss, mse_loss


def cosine(student, teacher, mask):
    student, teacher = student[mask], teacher[mask].detach()
    return cosine_embedding_loss(student, teacher, torch.ones(len(student), dtype=student.dtype))


def logits_mse(student, teacher, rows):
    return mse_loss(student[rows], teacher[rows].detach(), reduction="sum") / rows.sum()
