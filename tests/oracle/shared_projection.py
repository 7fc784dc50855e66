"""Shared projections in PyTorch: matrices along a diagonal, Frobenius norms, two softmaxes, steps of both models."""

import torch
import transformers
from torch.nn.functional import cross_entropy

from oracle import bert, optimizers


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


# ---------------------------------------------------------------- two vocabularies, two softmaxes

def mixed_masked_lm(logits, labels, first, second_rows):
    """The mean over the labels: rows of the first vocabulary are those below `first`, of the second `second_rows`."""
    labels, of_second = torch.as_tensor(labels), torch.as_tensor(labels >= first)
    piece = torch.full((logits.shape[1],), -1)
    piece[second_rows] = torch.arange(len(second_rows))
    total = cross_entropy(logits[~of_second][:, :first], labels[~of_second], reduction="sum") \
        + cross_entropy(logits[of_second][:, second_rows], piece[labels[of_second]], reduction="sum")
    return total / len(labels)


# ---------------------------------------------------------------- steps of both models at once

def steps(student, teacher, maps, batches, recipe, first, second_rows, losses, alone=False):
    """[{term: value, "loss", "gradient_norm"}] of each step; student, teacher: transformers' models, trained in place.

    losses: {"down" or "up": weight}, with maps {name: torch parameter}. alone: the teacher's stage, no student in it.
    """
    trained = {f"teacher.{name}": p for name, p in teacher.named_parameters()} | ({} if alone else maps | {
        f"student.{name}": p for name, p in student.named_parameters()})
    optimizer = optimizers.make(recipe.optimizer, trained, recipe,
                                lambda name: not name.endswith("bias") and "LayerNorm" not in name)
    schedule = transformers.get_scheduler("linear", optimizer, recipe.warmup, recipe.steps)
    values = []
    for batch in batches:
        labels = [torch.tensor(part.labels.ravel()[part.positions]).long() for part in (batch, batch.mixed)]
        logits = bert.graph(teacher, batch.mixed)["logits", None]
        terms = {"shared_projection.mixed_masked_lm": (1.0, mixed_masked_lm(logits, labels[1], first, second_rows))}
        if not alone:
            terms["masked_lm"] = 1.0, cross_entropy(bert.graph(student, batch)["logits", None], labels[0])
            terms |= {f"shared_projection.{name}": (weight, _weights(name, student, teacher, maps, second_rows))
                      for name, weight in losses.items()}
        loss = sum(weight * value for weight, value in terms.values())
        optimizer.zero_grad()
        loss.backward()
        found = [p.grad for p in trained.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(found).item()
        for g in found:
            g *= min(1.0, recipe.clip / norm)
        optimizer.step()
        schedule.step()
        values.append({name: value.item() for name, (_, value) in terms.items()}
                      | {"loss": loss.item(), "gradient_norm": norm})
    return values


def _weights(name, student, teacher, maps, second_rows):
    """L_d or L_u over all parameters, of the teacher's words the rows of the student's vocabulary."""
    u, v = (maps[f"shared_projection.{letter}_{name}.weight"] for letter in "UV")       # (teacher width, student width)
    wide, theirs, own, blocks = len(u), dict(teacher.named_parameters()), dict(student.named_parameters()), {}
    for label, w in own.items():
        if label in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
            theirs[label] = theirs[label][second_rows]
        sides = [None if a == b else b // wide for a, b in zip(w.shape, theirs[label].shape)]
        blocks[label] = sides + [None] * (2 - w.ndim)
        own[label], theirs[label] = (x if x.ndim == 2 else x[:, None] for x in (w, theirs[label]))
    return down(own, theirs, u.T, v, blocks) if name == "down" else up(own, theirs, u, v.T, blocks)


def value_and_gradients(teacher, batch, first, second_rows):
    """The teacher's loss on a batch, and {name without `bert.`: its gradient}, of transformers' model."""
    labels = torch.tensor(batch.labels.ravel()[batch.positions]).long()
    value = mixed_masked_lm(bert.graph(teacher, batch)["logits", None], labels, first, second_rows)
    named = dict(teacher.named_parameters())
    found = torch.autograd.grad(value, list(named.values()))
    return value.item(), {name.removeprefix("bert."): g.numpy() for name, g in zip(named, found)}
