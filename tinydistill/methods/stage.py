"""Recipe, Stage, Method: what a paper's training is, as data."""

from dataclasses import asdict, dataclass, replace
from typing import Callable

from tinydistill.features import Needs


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one stage. Steps are optimiser steps; warm-up is part of them; decay is decoupled."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-6
    decay: float = 0.01
    clip: float = 1.0                               # largest global norm of the gradient; 0 for none
    max_length: int = 128

    def but(self, **changes):
        """The recipe with what is given (not None) changed; a new number of steps keeps the warm-up's share of them."""
        changes = {name: value for name, value in changes.items() if value is not None}
        if "steps" in changes and "warmup" not in changes:
            changes["warmup"] = round(self.warmup * changes["steps"] / self.steps)
        return replace(self, **changes)

    def as_dict(self):
        return asdict(self)


@dataclass(frozen=True)
class Stage:
    """One phase of training: the weighted terms of its objective, and its recipes by name.

    "paper" is what the paper states; "laptop" is a size at which the same objective can be watched on two cores.
    """

    name: str
    terms: tuple                                    # of (weight, Term)
    recipes: dict                                   # {"paper": Recipe, "laptop": Recipe}

    @property
    def student_needs(self):
        return _union(term.student_needs for _, term in self.terms)

    @property
    def teacher_needs(self):
        return _union(term.teacher_needs for _, term in self.terms)


def _union(needs):
    together = Needs()
    for each in needs:
        together = together | each
    return together


@dataclass(frozen=True)
class Method:
    """A paper: its stages, and `check(student, teacher)` on two configurations, which says why a pair cannot work."""

    name: str
    paper: str
    stages: tuple
    check: Callable
    equal_heads: bool = False                       # whether `LxH` takes the teacher's number of heads
