"""Losses as people write them in PyTorch, right and wrong, for the adapter that checks them."""

import torch
from torch.nn.functional import kl_div, log_softmax, softmax

torch.set_num_threads(1)                            # for arrays this small, threads only wait for each other


def rows(student, teacher, temperature):
    """KL(teacher || student) of every row."""
    log_q, log_p = log_softmax(student / temperature, -1), log_softmax(teacher / temperature, -1)
    return kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def tokens(logits_S, logits_T, attention_mask, tau):
    """Right, for tokens: a mean over the real ones."""
    if tau <= 0 or not attention_mask.any():
        raise ValueError(f"temperature {tau}, mask with {attention_mask.sum()} real tokens")
    return tau ** 2 * rows(logits_S, logits_T.detach(), tau)[attention_mask].mean()


def without_a_mask(student, teacher, temp):
    return temp ** 2 * rows(student, teacher.detach(), temp).mean()


def without_a_temperature(student_logits, teacher_logits):
    return rows(student_logits, teacher_logits.detach(), 1.0).mean()


def in_place(y_s, y_t, T):
    """Right, and changes what it is given."""
    return T ** 2 * (softmax(y_t.detach() / T, -1) * (log_softmax(y_t.detach() / T, -1)
                                                      - log_softmax(y_s.div_(T), -1))).sum(-1).mean()


class Kd(torch.nn.Module):
    """Right; with numbers of its own, which have to be of the dtype that is asked for."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, student_outputs, teacher_outputs, *, T=4.0, alpha=1.0):
        return alpha * self.weight * T ** 2 * rows(student_outputs, teacher_outputs.detach(), T).mean()


INSTANCE = Kd()


class NeedsArguments(Kd):
    def __init__(self, weight):
        super().__init__(weight)


class ByHand(torch.autograd.Function):
    """Right: value and gradient."""

    @staticmethod
    def forward(ctx, student, teacher, T=1.0):
        ctx.save_for_backward(student, teacher)
        ctx.T = T
        return T ** 2 * rows(student, teacher, T).mean()

    @staticmethod
    def backward(ctx, upstream):
        student, teacher = ctx.saved_tensors
        q_less_p = softmax(student / ctx.T, -1) - softmax(teacher / ctx.T, -1)
        return upstream * ctx.T * q_less_p / len(student), None, None


class ForgetsUpstream(ByHand):
    @staticmethod
    def backward(ctx, upstream):
        return ByHand.backward(ctx, 1.0)


def number(student, teacher, T):
    """Right, and without a gradient."""
    return without_a_mask(student, teacher, T).item()


def detached(student, teacher, T):
    return without_a_mask(student.detach(), teacher, T)


def teacher_learns(student, teacher, T):
    return T ** 2 * rows(student, teacher, T).mean()


def reverse(student, teacher, T):
    return T ** 2 * rows(teacher.detach(), student, T).mean()


def not_reduced(student, teacher, T):
    return T ** 2 * rows(student, teacher.detach(), T)


def minilm(q, k, tq, tk, mask):
    """MiniLM's attention transfer: a mean over heads and real tokens of each sequence, then over sequences."""
    def scores(q, k):
        return (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).masked_fill(~mask[:, None, None], float("-inf"))
    log_q, log_p = log_softmax(scores(q, k), -1), log_softmax(scores(tq.detach(), tk.detach()), -1)
    keys = mask[:, None, None, :]
    terms = (log_p.exp() * (log_p.masked_fill(~keys, 0) - log_q.masked_fill(~keys, 0))).sum(-1)     # (B, A, T)
    return (terms.mean(1) * mask).sum(1).div(mask.sum(1)).mean()


def halves(x):
    """Three outputs, of which one has no gradient."""
    return x.sum(), x[:1] ** 2, x.argmax()


def named_halves(x):
    total, square, largest = halves(x)
    return {"largest": largest, "square": square, "sum": total, "more": 1}
