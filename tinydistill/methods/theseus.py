"""BERT-of-Theseus (Xu et al. 2020): the teacher's layers make room for the student's, and only the task's loss is left.

At update n, counted from 0, every module is replaced with the probability p_n, drawn for each module by itself:
    linear      p_n = min(1, base + growth n)               the published example: 0.3 + 0.0006 n, 1 from n = 1167 on
    constant    p_n = base, and 1 from n = replacing_steps on

From there on it is the successor that is fine-tuned, with the same moments and the same line of the learning rate: one
stage. Only the successor's layers are trained, before and after. Under `official` the norm that is clipped is that of
all gradients, those of the frozen embeddings, head and predecessor too, as in published code.

The successor begins as the teacher's first layers, not as those it replaces.
Source: JetRunner/BERT-of-Theseus, run_glue.py and the replacement schedulers; what the paper's text says of the second
phase is unverified. A layer that takes no part in a step has no gradient and is left alone by it, as PyTorch leaves what
has no gradient; whether the published run's optimiser moved it by its momentum is unverified, too.
"""

from functools import partial

from tinydistill.backend import generator, stream
from tinydistill.compress.theseus import Theseus
from tinydistill.errors import WrongUsage
from tinydistill.losses import hard_labels
from tinydistill.methods.stage import TASK, Method, Recipe, Stage

# README: MRPC with a batch of 32, a rate of 2e-5 and 15 epochs.
RECIPES = {"paper": Recipe(steps=100, epochs=15, batch_size=32, learning_rate=2e-5, max_length=128),
           "laptop": Recipe(steps=100, epochs=10, batch_size=16, learning_rate=2e-4, max_length=64)}
SCHEDULES = "linear", "constant"


def check(student, teacher, **settings):
    """A module of the student stands for some of the teacher's layers, in between them."""
    for config in (student, teacher):
        if "hidden" not in config.features:
            raise WrongUsage(f"theseus puts the student's layers among the teacher's, and {config} shows none: "
                             f"it has {', '.join(config.features)}")
    if student.hidden != teacher.hidden or teacher.layers % student.layers:
        fits = next(M for M in range(min(student.layers, teacher.layers), 0, -1) if teacher.layers % M == 0)
        raise WrongUsage(f"theseus puts the student's layers into the teacher and needs equal widths and a depth that "
                         f"divides the teacher's: student {student.layers}x{student.hidden}, teacher "
                         f"{teacher.layers}x{teacher.hidden}; write the student as {fits}x{teacher.hidden}")
    if (student.model_type, student.heads) != (teacher.model_type, teacher.heads):
        raise WrongUsage(f"theseus puts the student's layers into the teacher and needs one architecture and number of "
                         f"heads: student {student.model_type} with {student.heads}, teacher {teacher.model_type} with "
                         f"{teacher.heads}")
    if teacher.head in ("none", "masked-lm", "pretraining"):
        raise WrongUsage(f"theseus needs a teacher fine-tuned on the task, whose embeddings and head the student keeps; "
                         f"this one has the head {teacher.head!r}")


def probability(n, schedule, base, growth, replacing_steps):
    """p_n. The first forward has n = 0.

    >>> probability(0, "linear", 0.3, 0.0006, 0), probability(1167, "linear", 0.3, 0.0006, 0)
    (0.3, 1.0)
    >>> [probability(n, "constant", 0.3, 0.0, 2) for n in range(3)]
    [0.3, 0.3, 1.0]
    """
    if schedule == "linear":
        return min(1.0, base + growth * n)
    return base if n < replacing_steps else 1.0


def decisions(step, steps, seed, config, **schedule):
    """One bool a module: whether it is replaced."""
    drawn = generator(seed, stream("theseus"), step).random(config.layers)
    return tuple(bool(u < probability(step, **schedule)) for u in drawn)


def of_successor(name, config):
    """Whether a parameter of the model is the successor's."""
    return name.startswith("layers.")


def everything(name, config):
    """Whether the norm counts a parameter, in published code."""
    return True


def rates(step, steps, config):
    """What has a gradient for the norm's sake is not updated."""
    return lambda name: float(of_successor(name, config))


def stages(schedule, base, growth, replacing_steps):
    """The labels alone. schedule, base, growth, replacing_steps: of the probability of a module to be replaced."""
    if schedule not in SCHEDULES:
        raise WrongUsage(f"need a schedule of theseus out of {', '.join(SCHEDULES)}; got {schedule!r}")
    if not 0 < base <= 1 or growth < 0 or replacing_steps < 0:
        raise WrongUsage(f"need a base above 0 and at most 1, for else no module is ever replaced, and growth and "
                         f"replacing_steps of at least 0; got base {base}, growth {growth}, "
                         f"replacing_steps {replacing_steps}")
    settings = dict(schedule=schedule, base=base, growth=growth, replacing_steps=replacing_steps)
    return (Stage("replace", ((1.0, hard_labels.classes),), RECIPES, reads=TASK, head="task",
                  before=lambda student, teacher: Theseus(teacher, student), after=Theseus.successor,
                  teacher_inside=True, trains=of_successor, official_trains=everything, rates=rates,
                  decisions=partial(decisions, **settings)),)


method = Method(
    "theseus", "Xu et al. 2020, BERT-of-Theseus: Compressing BERT by Progressive Module Replacing",
    on_task=stages, settings={"schedule": "linear", "base": 0.3, "growth": 0.0006, "replacing_steps": 0}, check=check,
    equal_heads=True, start="first-layers")
