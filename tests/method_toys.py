"""Every method as a case: a toy pair for it, what its stages read, and its whole plan as phases of training."""

from dataclasses import dataclass, field, replace

import numpy as np

from tinydistill.architectures import build
from tinydistill.features import IGNORED, Needs, Pass
from tinydistill.methods import METHODS
from tinydistill.methods.projections import Projections
from tinydistill.methods.stage import MASKED, MASKED_EVERYWHERE, TASK, TEXT
from tinydistill.methods.start import copied
from tinydistill.students import bodies
from tinydistill.students.bertvision import BertVisionConfig
from tinydistill.students.heads import with_head
from tinydistill.students.houlsby import AdapterBertConfig
from tinydistill.tensor import no_grad
from tinydistill.training.loop import Phase
from toys import batch_at, toy

LABELS = ("a", "b", "c")
ON_BODY = {"bert-vision": BertVisionConfig(1, 2, 1, 4, pooler_width=5, length=7),
           "adapters": AdapterBertConfig(1, 2, 1, 4, bottleneck=5)}
AS_DEEP = "mobilebert", "shared-projection"
STEPS = 10


@dataclass(frozen=True)
class Case:
    """A method as it is asked for on the command line."""

    method: str
    task: bool = False
    convention: str = "paper"
    settings: dict = field(default_factory=dict, hash=False)

    @property
    def of(self):
        return METHODS[self.method]

    @property
    def teacher_head(self):
        """The head that the teacher has been trained with."""
        if self.task:
            return "token" if self.method == "sequence-labels" else "sequence"
        return "masked-lm" if any("logits" in stage.teacher_needs or stage.teacher_inside
                                  for stage in self.of.stages()) else "none"

    def head(self, stage):
        """(head, labels) that the student has in this stage."""
        return (self.teacher_head, LABELS) if stage.head == "task" else (stage.head, ())

    def plan(self, student, teacher):
        return self.of.plan(student.config, teacher.config, task=self.task, convention=self.convention, **self.settings)


def _cases():
    """{name: Case}: each method on a corpus and on a task, where it has that, and as published code has it."""
    for name, method in METHODS.items():
        for task, build in ((False, method.on_text), (True, method.on_task)):
            if build:
                where = " on a task" if task and method.on_text else ""
                yield name + where, Case(name, task)
                if any(stage.official for stage in method.stages(task)):
                    yield f"{name}{where}, official", Case(name, task, "official")
    for variant in ("attention-only", "value-mse", "hidden-relation", "layer-to-layer"):
        yield f"minilm, {variant}", Case("minilm", settings={"variant": variant})
    for transfer in ("joint", "auxiliary"):
        for convention in ("paper", "official"):
            name = f"mobilebert, {transfer}" + (", official" if convention == "official" else "")
            yield name, Case("mobilebert", False, convention, {"transfer": transfer})
    yield "theseus, official", Case("theseus", True, "official", {"growth": 0.3})
    yield "theseus, constant", Case("theseus", True, settings={"schedule": "constant", "base": 0.5, "replacing_steps": 5})
    for direction in ("up", "both"):
        yield f"shared-projection, {direction}", Case("shared-projection", settings={"direction": direction})
    yield "minilm-v2, 4 relation heads", Case("minilm-v2", settings={"relation_heads": 4, "teacher_layer": 3})


CASES = dict(_cases())


def models(case, seed=0):
    """(student, teacher) in float64 without dropout: half as deep, but for `AS_DEEP`, and narrower where the method knows
    what to do; MobileBERT's is neither, and a student on the body of its teacher is that body."""
    teacher = _toy(12, 2 if case.method in AS_DEEP else 4, 1, head=case.teacher_head, labels=LABELS if case.task else ())
    if case.method in ON_BODY:
        return on_body(ON_BODY[case.method], teacher, seed), teacher
    narrow = case.of.start == "random"              # methods that copy layers copy them from their own width
    return _toy(8 if narrow else 12, 2, seed, heads=4 if case.method == "minilm-v2" else 2), teacher


def on_body(config, teacher, seed=0, **changes):
    """A student on the body of the toy teacher, its own parts drawn."""
    config = bodies.on_body(config, teacher.config).but(initial_std=0.4, **changes)
    return copied(build(config, seed).to(np, np.float64), teacher, "first-layers")


def _toy(hidden, layers, seed, **changes):
    """A toy whose norms and biases are some random numbers, too: by a norm of ones all tokens are equally strong."""
    model, rng = toy(hidden, layers, seed, dropout=0.0, attention_dropout=0.0, **changes), np.random.default_rng(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.array = parameter.array + 0.3 * rng.standard_normal(parameter.shape)
    return model


def projections_of(case, student, teacher, seed=2):
    """The method's learned maps, far from zero."""
    maps = Projections(case.plan(student, teacher), student.config, teacher.config, seed, std=0.3)
    return maps.to(np, np.float64)


def copies(module):
    """{name: array} as they are now: training writes into the arrays of a NumPy model."""
    return {name: array.copy() for name, array in module.arrays().items()}


def batch_of(case, stage, teacher, step):
    """What a stage reads. Where the teacher knows an answer, it is the label, so that all terms want the same."""
    batch = batch_at(step)
    if stage.reads == TEXT:
        return batch
    tokens = case.teacher_head in ("masked-lm", "token")
    answers = _answers(teacher, batch).reshape(batch.ids.shape if tokens else len(batch)) if (
        case.teacher_head == "masked-lm" or stage.reads == TASK) else batch.ids
    if stage.reads == TASK and not tokens:
        return replace(batch, labels=answers)                           # (B,)
    some = batch.mask & (np.arange(6) % 2 == 0)                         # masked tokens, or first pieces of words
    batch = replace(batch, labels=np.where(some, answers, IGNORED))     # (B, T)
    where = {MASKED: some, MASKED_EVERYWHERE: batch.mask, TASK: None}[stage.reads]
    return batch if where is None else replace(batch, positions=np.flatnonzero(where))


def _answers(teacher, batch):
    with no_grad():
        return teacher(batch, Pass(Needs.of(logits=True))).logits.array.argmax(axis=-1)


def phases(case, student, teacher, *, steps=STEPS, on=None, seen=None, one_batch=True, **changes):
    """The plan as phases by the paper's recipes, ten steps each and at a rate for toys.

    on: the teacher on another library. seen: a list that is given the arrays of what each stage trains, as it begins.
    one_batch: whether every step reads the same batch.
    """
    class Watched(Phase):
        def begin(self, student):
            model = super().begin(student)
            if seen is not None:
                seen.append(copies(model))
            return model

    def recipe(stage):
        paper = stage.recipes["paper"]
        rate = paper.learning_rate if paper.optimizer == "adadelta" else 0.01
        return paper.but(steps=steps, **{"learning_rate": rate} | changes)

    return [Watched(stage, recipe(stage),
                    lambda step, stage=stage: batch_of(case, stage, teacher, 0 if one_batch else step),
                    on or teacher, lambda model, stage=stage: with_head(model, *case.head(stage), seed=7))
            for stage in case.plan(student, teacher)]
