"""Internal representations in PyTorch: kl_div of each unpadded sequence, and cosine_embedding_loss."""

import torch
from torch.nn.functional import cosine_embedding_loss, kl_div, log_softmax


def _sequences(student_scores, teacher_scores, mask):
    """The KL of every unpadded sequence, (A, n, n) each: not yet summed."""
    for student, teacher, real in zip(student_scores, teacher_scores.detach(), mask):
        log_q, log_p = (log_softmax(x[:, real][:, :, real], dim=2) for x in (student, teacher))
        yield kl_div(log_q, log_p, log_target=True, reduction="none")


def attention(student_scores, teacher_scores, mask):
    return torch.stack([kl.sum(dim=2).mean() for kl in _sequences(student_scores, teacher_scores, mask)]).mean()


def summed(student_scores, teacher_scores, mask):
    return sum(kl.sum(dim=(1, 2)).mean() for kl in _sequences(student_scores, teacher_scores, mask))


def cosine(student, teacher, mask):
    return cosine_embedding_loss(student[:, 0], teacher[:, 0].detach(), student.new_ones(len(mask)))
