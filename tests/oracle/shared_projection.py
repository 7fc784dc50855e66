"""Shared projections in PyTorch: matrices along a diagonal, and Frobenius norms."""

import torch


def _along(matrix, blocks):
    """The matrix so many times along a diagonal."""
    return torch.block_diag(*[matrix] * blocks)


def down(student, teacher, u, v, blocks):
    """blocks {name: (k of rows, k of columns)}, None for an axis that is left alone."""
    total = 0
    for name, (rows, columns) in blocks.items():
        w = teacher[name].detach()
        w = w if rows is None else _along(u, rows) @ w
        w = w if columns is None else w @ _along(v, columns)
        total = total + torch.linalg.vector_norm(w - student[name]) ** 2
    return total


def up(student, teacher, u, v, blocks):
    total = 0
    for name, (rows, columns) in blocks.items():
        w = student[name]
        w = w if rows is None else _along(u, rows) @ w
        w = w if columns is None else w @ _along(v, columns)
        total = total + torch.linalg.vector_norm(teacher[name].detach() - w) ** 2
    return total
