"""BERT-of-Theseus in PyTorch: two lists of transformers' layers, and for each forward one list made of both."""

import torch
import transformers

from oracle import optimizers


def composed(predecessor, successor, decisions):
    """The predecessor's list of layers with the successor's in the place of those that were decided on."""
    r = len(predecessor) // len(successor)
    modules = zip(decisions, successor, (predecessor[i * r:(i + 1) * r] for i in range(len(successor))))
    return torch.nn.ModuleList(layer for new, own, old in modules for layer in ([own] if new else old))


def run(predecessor, successor, batch, decisions):
    """Logits (B, C) of the predecessor with these modules replaced; both are transformers' models."""
    encoder = predecessor.base_model.encoder
    before, encoder.layer = encoder.layer, composed(encoder.layer, successor.base_model.encoder.layer, decisions)
    try:
        return predecessor(input_ids=torch.tensor(batch.ids).long(), attention_mask=torch.tensor(batch.mask).long()).logits
    finally:
        encoder.layer = before


def steps(predecessor, successor, batches, decisions, recipe, clip_all):
    """[{"cross_entropy", "gradient_norm"}] of each step of AdamW on the successor's layers, which are trained in place.

    clip_all: whether the norm is that of the predecessor's gradients, too.
    """
    layers = dict(successor.base_model.encoder.layer.named_parameters())
    optimizer = optimizers.make("adamw", layers, recipe, lambda name: not name.endswith("bias") and "LayerNorm" not in name)
    schedule = transformers.get_scheduler("linear", optimizer, recipe.warmup, recipe.steps)
    values = []
    for batch, decided in zip(batches, decisions, strict=True):
        logits = run(predecessor, successor, batch, decided)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(batch.labels).long())
        for parameter in (*layers.values(), *predecessor.parameters()):
            parameter.grad = None
        loss.backward()
        counted = [*layers.values(), *(predecessor.parameters() if clip_all else ())]
        found = [p.grad for p in counted if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(found).item() if found else 0.0
        for p in layers.values():
            if p.grad is not None:
                p.grad *= min(1.0, recipe.clip / norm)
        optimizer.step()
        schedule.step()
        values.append({"cross_entropy": loss.item(), "gradient_norm": norm})
    return values
