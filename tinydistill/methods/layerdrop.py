"""Reducing Transformer depth on demand with structured dropout (Fan et al. 2020): training under LayerDrop. No teacher.

Each layer of the student is left out of a step with probability `rate`; at the end a share `prune` of its layers is
taken out for good, every other one for a half, and what is left needs no training. `--start first-layers` begins with
the teacher's layers where the student has its depth and width.
"""

from dataclasses import replace
from functools import partial

from tinydistill.compress import layerdrop
from tinydistill.errors import WrongUsage
from tinydistill.methods import bert
from tinydistill.methods.stage import Method


def decisions(step, steps, seed, config, rate):
    """Which layers take part in this step."""
    return layerdrop.drawn(rate, config.layers, seed, step)


def pruned(model, prune):
    """The student without the share of its layers that is pruned."""
    return layerdrop.subset(model, layerdrop.every_other(model.config.layers, prune))


def _under_layerdrop(stage, rate, prune):
    after = partial(pruned, prune=prune) if prune else None
    return replace(stage, decisions=partial(decisions, rate=rate), after=after)


def on_text(rate, prune):
    """Pre-training."""
    return (_under_layerdrop(bert.pretrain, rate, prune),)


def on_task(rate, prune):
    """Fine-tuning."""
    return (_under_layerdrop(bert.finetune, rate, prune),)


def check(student, teacher, rate, prune):
    """The student has Transformer layers, and the shares are such as can be."""
    if not student.heads:
        raise WrongUsage(f"layerdrop needs a student of Transformer layers, got {student}")
    layerdrop.drawn(rate, student.layers, 0, 0)
    layerdrop.every_other(student.layers, prune)


method = Method(
    "layerdrop", "Fan et al. 2020, Reducing Transformer Depth on Demand with Structured Dropout",
    on_text=on_text, on_task=on_task, settings={"rate": 0.2, "prune": 0.0}, check=check,
    notes="rate 0.2 is from memory of the paper (unverified)")
