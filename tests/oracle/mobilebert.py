"""MobileBERT in PyTorch: mse_loss, layer_norm, var, kl_div of what is left without padding, or of everything."""

import torch
from torch.nn.functional import cross_entropy, kl_div, layer_norm, log_softmax, mse_loss, one_hot, softmax


def per_sequence(loss):
    """The mean over sequences of a loss of (n, N), each cut out of the batch."""
    def paper(student, teacher, mask):
        return torch.stack([loss(s[real], t[real].detach()) for s, t, real in zip(student, teacher, mask)]).mean()
    return paper


def of_everything(loss):
    def official(student, teacher, mask):
        return loss(student, teacher.detach())
    return official


def normalised(student, teacher):
    return mse_loss(*(layer_norm(x, x.shape[-1:], eps=1e-12) for x in (student, teacher)))


def means(student, teacher):
    return mse_loss(student.mean(dim=-1), teacher.mean(dim=-1))


def variances(student, teacher):
    return (student.var(dim=-1, correction=0) - teacher.var(dim=-1, correction=0)).abs().mean()


def attention(student, teacher, mask):
    """1/(n A) of kl_div's sum, of each sequence without its padding."""
    total = 0
    for s, t, real in zip(student, teacher.detach(), mask):
        log_q, log_p = (log_softmax(x[:, real][:, :, real], dim=-1) for x in (s, t))
        total = total + kl_div(log_q, log_p, log_target=True, reduction="sum") / (len(s) * real.sum())
    return total / len(mask)


def attention_official(student, teacher, mask):
    """-1/(B A T) sum p log q, with -10000 added at padded keys."""
    added = (mask.to(student.dtype) - 1)[:, None, None, :] * 10000
    return -(softmax(teacher.detach() + added, dim=-1) * log_softmax(student + added, dim=-1)).sum(dim=-1).mean()


def all_layers(loss):
    """The published code's bug: one layer of the student against the stack of all the teacher's."""
    def official(student, *teachers_and_mask):
        stack = torch.stack(teachers_and_mask[:-1]).detach()
        return loss(student[None].expand(stack.shape), stack)
    return official


def pretraining(student, teacher, labels, epsilon=0.0, alpha=0.5):
    rows = labels != -100
    target = (1 - alpha) * softmax(teacher[rows].detach(), dim=1) + alpha * one_hot(labels[rows], teacher.shape[1])
    return cross_entropy(student[rows], target, reduction="sum") / (int(rows.sum()) + epsilon)
