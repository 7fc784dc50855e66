"""Term: one summand of a training objective: what it reads, on which layers, under which convention."""

from dataclasses import dataclass, field, replace
from typing import Callable

from tinydistill.errors import WrongUsage
from tinydistill.features import PER_LAYER, Needs
from tinydistill.losses.convention import PAPER

LAST = ((-1, -1),)                                  # the last layer of the student beside the last of the teacher


def mask_divisor(term, batch):
    """What most terms divide by: what their convention counts in the batch's mask."""
    return term.rule.divides_by(batch.mask)


@dataclass(frozen=True)
class Term:
    """`term(student, teacher, batch, divisor)` is the sum over what this shard holds, over the whole batch's divisor.

    loss(term, student, teacher, batch, divisor, projections): Features in, a scalar Tensor out.
    count(term, batch): the divisor, counted on the global batch before it is split, so that any split adds up to the
    loss of the whole.
    reads, teacher_reads: fields of Features; those of layers are read on `pairs`, (student layer, teacher layer) each.
    conventions: what the loss can be computed as, by name; convention: the name of the one in force.
    projection: name of the learned map from student to teacher width that the loss is computed through, "" for none, or
    a tuple of names where it takes several at once;
    projection_each: a map of its own for each pair, NAME.0, NAME.1 ..., instead of one for all; projection_bias: y = x W^T + b.
    reads_parameters: the loss gets {name: Tensor}, a model's parameters, in the place of Features, and reads no field.
    relation_heads: how many heads the width is cut into anew where relations are compared; 0: as many as the teacher has.
    smoothing: eps of label smoothing.
    paper, equation: where it is printed. notes: what a reader has to know, such as "unverified".
    """

    name: str
    loss: Callable
    count: Callable = mask_divisor
    reads: tuple = ()
    teacher_reads: tuple = ()
    paper: str = ""
    equation: str = ""
    conventions: dict = field(default_factory=lambda: {"paper": PAPER}, hash=False)
    convention: str = "paper"
    pairs: tuple = LAST
    temperature: float = 1.0
    relation_heads: int = 0
    smoothing: float = 0.1
    projection: str | tuple = ""
    projection_each: bool = False
    projection_bias: bool = False
    reads_parameters: bool = False
    notes: str = ""

    def __call__(self, student, teacher, batch, divisor, projections=None):
        return self.loss(self, student, teacher, batch, divisor, projections)

    def divisor(self, batch):
        """What the whole batch's sum is divided by."""
        return self.count(self, batch)

    def over_pairs(self, loss_of_pair, projections=None):
        """sum over the pairs of layers of loss_of_pair(student layer, teacher layer, *(weight, bias) of its learned map)."""
        total, maps = None, self.projection_names
        for i, (student_layer, teacher_layer) in enumerate(self.pairs):
            learned = (projections[maps[i]].weight, projections[maps[i]].bias) if maps else ()
            one = loss_of_pair(student_layer, teacher_layer, *learned)
            total = one if total is None else total + one
        return total

    @property
    def rule(self):
        """The Convention in force."""
        return self.conventions[self.convention]

    @property
    def student_needs(self):
        return _needs(self.reads, [student for student, _ in self.pairs])

    @property
    def teacher_needs(self):
        return _needs(self.teacher_reads, [teacher for _, teacher in self.pairs])

    @property
    def projection_names(self):
        """The learned map of each pair, by name; or all maps of a loss that takes several."""
        if not self.projection or isinstance(self.projection, tuple):
            return self.projection or ()
        return tuple(f"{self.projection}.{i}" if self.projection_each else self.projection for i in range(len(self.pairs)))

    def on(self, pairs):
        """The same term on these pairs of layers; a term of the whole model stays as it is."""
        per_layer = any(name in PER_LAYER for name in self.reads + self.teacher_reads)
        return replace(self, pairs=tuple(pairs)) if per_layer else self

    def under(self, convention):
        """The same term under a convention of this name."""
        if convention not in self.conventions:
            raise WrongUsage(f"need a convention of {self.name} out of {', '.join(self.conventions)}; got {convention!r}")
        return replace(self, convention=convention)

    def but(self, **changes):
        return replace(self, **changes)


def _needs(fields, layers):
    return Needs.of(**{name: layers if name in PER_LAYER else True for name in fields})
