"""MiniLM in PyTorch, from the formula: the right loss, and a batched one that can be wrong in twenty named ways.

The right one cuts each sequence out of the batch, so that it needs no mask. The batched one is what implementations in
frameworks look like; with nothing wrong it is equal to the first, so each of `WRONG` differs in what its name says.
"""

import numpy as np
import torch
from torch.nn.functional import kl_div, log_softmax

torch.set_num_threads(1)                            # for arrays this small, threads only wait for each other


def transfer(student_x, student_y, teacher_x, teacher_y, mask, convention="paper"):
    """1/B sum_b 1/(A n_b) sum KL(teacher || student), one unpadded sequence at a time. Shapes: (B, A, T, K)."""
    total = 0
    for b, real in enumerate(mask):
        rows = torch.ones_like(real) if convention == "paddlenlp" else real
        log_q, log_p = (log_softmax(x[b][:, rows] @ y[b][:, real].transpose(1, 2) / x.shape[3] ** 0.5, dim=2)
                        for x, y in ((student_x, student_y), (teacher_x, teacher_y)))
        divisor = {"paper": real.sum() * len(mask), "token": mask.sum(), "paddlenlp": mask.numel()}[convention]
        total = total + kl_div(log_q, log_p, log_target=True, reduction="sum") / (len(log_p) * int(divisor))
    return total


def attention(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask):
    return transfer(student_q, student_k, teacher_q, teacher_k, mask)


def value_relation(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask):
    return transfer(student_v, student_v, teacher_v, teacher_v, mask)


def minilm(*arrays):
    return attention(*arrays) + value_relation(*arrays)


# ---------------------------------------------------------------- the batched form, and what can be wrong with it

WRONG = {
    "KL(student || teacher)": "value and gradient",
    "cross-entropy: the teacher's entropy is not subtracted": "value",
    "mean squared error of the probabilities": "value and gradient",
    "softmax of the probabilities once more": "value and gradient",
    "softmax over the queries": "value and gradient",
    "no 1/|x|": "value and gradient",
    "1/T in the place of 1/|x|": "value and gradient",
    "mean over all tokens of the batch": "value and gradient",
    "mean over the keys too": "value and gradient",
    "sum over heads": "value and gradient",
    "sum over the batch": "value and gradient",
    "padded rows counted": "value and gradient",
    "padded keys seen": "value and gradient",
    "padded keys seen by the values": "value and gradient",
    "no 1/sqrt(K)": "value and gradient",
    "the teacher's sqrt(K) on the student": "value and gradient",
    "keys on both sides": "value and gradient",
    "half of everything": "value and gradient",
    "dv without the transposed term": "gradient",            # G v / sqrt(K) in the place of (G + G^T) v / sqrt(K)
    "the upstream gradient is ignored": "gradient",
    "the teacher gets a gradient": "gradient",
}


class _IgnoresUpstream(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dy):
        return torch.ones_like(dy)


def _relation_kl(student_x, student_y, teacher_x, teacher_y, mask, wrong, values):
    B, A, T, K = student_x.shape
    if wrong == "dv without the transposed term" and values:
        student_y = student_y.detach()
    if wrong == "keys on both sides":
        student_x, teacher_x = student_y, teacher_y
    if wrong != "the teacher gets a gradient":
        teacher_x, teacher_y = teacher_x.detach(), teacher_y.detach()
    teacher_K = 1 if wrong == "no 1/sqrt(K)" else teacher_x.shape[3]
    K = teacher_K if wrong in ("no 1/sqrt(K)", "the teacher's sqrt(K) on the student") else K
    student = student_x @ student_y.transpose(2, 3) / K ** 0.5
    teacher = teacher_x @ teacher_y.transpose(2, 3) / teacher_K ** 0.5
    seen_padding = wrong == "padded keys seen" or (wrong == "padded keys seen by the values" and values)
    hidden = torch.zeros(()) if seen_padding else torch.where(mask, 0.0, -1e4)[:, None, None, :]
    dim = 2 if wrong == "softmax over the queries" else 3
    log_q, log_p = log_softmax(student + hidden, dim), log_softmax(teacher + hidden, dim)
    if wrong == "softmax of the probabilities once more":
        log_q, log_p = log_softmax(log_q.exp() + hidden, dim), log_softmax(log_p.exp() + hidden, dim)
    p, q = log_p.exp(), log_q.exp()
    each = {"KL(student || teacher)": q * (log_q - log_p), "mean squared error of the probabilities": (p - q) ** 2,
            "cross-entropy: the teacher's entropy is not subtracted": -p * log_q}.get(wrong, p * (log_p - log_q))
    rows = each.sum(dim=3).sum(dim=1)                                                   # (B, T): over keys and heads
    if wrong != "padded rows counted":
        rows = torch.where(mask, rows, 0.0)
    lengths = mask.sum(dim=1, keepdim=True).to(rows.dtype)                              # (B, 1)
    divisor = {"no 1/|x|": A * B, "1/T in the place of 1/|x|": T * A * B, "sum over heads": lengths * B,
               "mean over all tokens of the batch": A * lengths.sum(), "sum over the batch": A * lengths,
               "half of everything": 2 * A * lengths * B, "mean over the keys too": A * lengths * lengths * B,
               }.get(wrong, A * lengths * B)
    value = (rows / divisor).sum()
    return _IgnoresUpstream.apply(value) if wrong == "the upstream gradient is ignored" else value


def batched(student_q, student_k, student_v, teacher_q, teacher_k, teacher_v, mask, wrong=None):
    """(L_AT, L_VR), with one thing wrong or nothing."""
    return (_relation_kl(student_q, student_k, teacher_q, teacher_k, mask, wrong, values=False),
            _relation_kl(student_v, student_v, teacher_v, teacher_v, mask, wrong, values=True))


def batched_with_gradients(student, teacher, mask, upstream, wrong=None):
    """(L_AT, L_VR, gradient of upstream * (L_AT + L_VR) for the three arrays of the student, then of the teacher)."""
    tensors = [torch.tensor(x, requires_grad=True) for x in (*student, *teacher)]
    parts = batched(*tensors, torch.tensor(mask), wrong=wrong)
    found = torch.autograd.grad(sum(parts) * upstream, tensors, allow_unused=True)
    return (*(part.item() for part in parts), [None if g is None else np.asarray(g) for g in found])
