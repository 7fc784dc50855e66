"""TinyBERT in PyTorch: mse_loss of what is left when padding is cut away, and of everything as published code does."""

import torch
from torch.nn.functional import cross_entropy, linear, mse_loss, softmax


def hidden(student, weight, bias, teacher, mask):
    return equal_widths(linear(student, weight, bias), teacher, mask)


def hidden_tokens(student, weight, bias, teacher, mask):
    return mse_loss(linear(student[mask], weight, bias), teacher[mask].detach())


def hidden_official(student, weight, bias, teacher, mask):
    return mse_loss(linear(student, weight, bias), teacher.detach())


def equal_widths(student, teacher, mask):
    return torch.stack([mse_loss(s[real], t[real].detach()) for s, t, real in zip(student, teacher, mask)]).mean()


def attention(student, teacher, mask):
    """The mean over heads of the mean square of each, of the mean over sequences."""
    def heads(scores, real):
        return [head[real][:, real] for head in scores]
    each = [torch.stack(list(map(mse_loss, heads(s, real), heads(t.detach(), real)))).mean()
            for s, t, real in zip(student, teacher, mask)]
    return torch.stack(each).mean()


def attention_pairs(student, teacher, mask):
    both = (mask[:, :, None] & mask[:, None, :])[:, None].expand(student.shape)
    return mse_loss(student[both], teacher[both].detach())


def attention_official(student, teacher, mask):
    added = (1 - mask.to(student.dtype))[:, None, None, :] * -10000
    return mse_loss(*(torch.where(x <= -1e2, 0, x) for x in (student + added, teacher.detach() + added)))


def prediction(student, teacher, mask, t=1.0):
    return cross_entropy(student / t, softmax(teacher.detach() / t, dim=1))


def prediction_official(student, teacher, mask, t=1.0):
    return (-softmax(teacher.detach() / t, dim=1) * torch.log_softmax(student / t, dim=1)).mean()
