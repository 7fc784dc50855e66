"""Recipe, Stage, Method: what a paper's training is, as data."""

from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Callable

from tinydistill.errors import WrongUsage
from tinydistill.features import Needs

TEXT, MASKED, MASKED_EVERYWHERE, TASK = "text", "masked text", "masked text, read everywhere", "task"
READS = (TEXT, MASKED, MASKED_EVERYWHERE, TASK)
HEADS = ("none", "masked-lm", "pretraining", "task")
EACH_LAYER = ("", "alone", "up to")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one stage. Steps are optimiser steps; warm-up is part of them; decay is decoupled.

    epochs: where the rows of a task are read, how often; steps then follow from their number, and the warm-up's share of
    the steps stays. optimizer, schedule: names of `training.optimizers` and `training.schedules`. layer_decay: the rate of
    each layer is that of the layer above times this.
    """

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
    optimizer: str = "adamw"
    schedule: str = "linear"
    epochs: int = 0
    layer_decay: float = 1.0

    def but(self, **changes):
        """The recipe with what is given (not None) changed; a new number of steps keeps the warm-up's share of them."""
        changes = {name: value for name, value in changes.items() if value is not None}
        if "steps" in changes and "warmup" not in changes:
            changes["warmup"] = round(self.warmup * changes["steps"] / self.steps)
        return replace(self, **changes)

    def as_dict(self):
        return asdict(self)


@dataclass(frozen=True)
class Ramp:
    """A weight that goes in a straight line from `start` at a stage's first step to `end` at its last."""

    start: float
    end: float

    def at(self, step, steps):
        return self.start + (self.end - self.start) * step / max(1, steps - 1)


@dataclass(frozen=True)
class Late:
    """A weight that is 0 at a stage's first step."""

    weight: float

    def at(self, step, steps):
        return self.weight if step else 0.0


@dataclass(frozen=True)
class Share:
    """A weight that is `whole` over the number of the student's layers, known when a stage is bound to models.

    late: 0 at the stage's first step.
    """

    whole: float
    late: bool = False

    def of(self, layers):
        return Late(self.whole / layers) if self.late else self.whole / layers


@dataclass(frozen=True)
class Stage:
    """One phase of training: the weighted terms of its objective, what it reads, and its recipes by name.

    terms: (weight, Term) each, a weight is a number, a Ramp, Late or a Share; official: the same as published code has
    them, where that is more than another Convention of each term. layer_map(M, L): the pairs of layers that terms of
    layers compare.
    reads: rows of text, masked text (the head reads masked places, or every real one), or a task's examples.
    head: what the student's logits come from: "none", "masked-lm", "pretraining", or "task", the task's own head.
    masking, official_masking: which tokens are hidden where masked text is read, and which in published code: names of
    `data.inputs.MASKINGS`. official_reads: what published code reads, where that is something else.
    each_layer: "alone": the stage is done once for each pair of layers, with this pair; "up to": with it and all before.
    recipes: "paper" is what the paper states, "official" what published code does, "laptop" a size at which the same
    objective can be watched on two cores.

    What a method does besides to the model that it trains; None is as usual, `config` is that model's:
    trains(name, config): whether a parameter of the model is trained. The others get no gradient and no update.
    official_trains: the same in published code, where that is something else.
    rates(step, steps, config) -> function of a parameter's name: the factor of its learning rate at this step. A stage
    that is done once for each pair of layers tells it `layer=` besides, the student's last one of them.
    decisions(step, steps, seed, config) -> `Pass.decisions` of this step: the same for every shard.
    drops, official_drops: whether units drop out of the student, here and in published code.
    before(student, teacher) -> the model that the stage trains; after(model) -> the student that comes out of it. The
    names and shapes of what they build follow from those of what they get, never from its values.
    teacher_inside: whether the teacher, with the head that the stage has, is part of that model.
    """

    name: str
    terms: tuple
    recipes: dict
    official: tuple = ()
    layer_map: Callable | None = None
    reads: str = TEXT
    head: str = "none"
    each_layer: str = ""
    masking: str = "bert"
    official_masking: str = "bert"
    official_reads: str = ""
    trains: Callable | None = None
    official_trains: Callable | None = None
    rates: Callable | None = None
    decisions: Callable | None = None
    drops: bool = True
    official_drops: bool = True
    before: Callable | None = None
    after: Callable | None = None
    teacher_inside: bool = False

    def __post_init__(self):
        for name, allowed in (("reads", READS), ("head", HEADS), ("each_layer", EACH_LAYER)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"need {name} out of {allowed}, got {getattr(self, name)!r}")

    @property
    def student_needs(self):
        return _union(term.student_needs for _, term in self.terms)

    @property
    def teacher_needs(self):
        return _union(term.teacher_needs for _, term in self.terms)

    def weights(self, step, steps):
        """The weight of every term at this step of so many."""
        return [w.at(step, steps) if isinstance(w, (Ramp, Late)) else w for w, _ in self.terms]

    def trained(self, parameters, config):
        """Those of {name: Tensor}, a model's parameters, that are trained."""
        return {name: p for name, p in parameters.items() if self.trains is None or self.trains(name, config)}

    def factors(self, step, steps, names, config):
        """{name: factor of its learning rate} at this step of so many."""
        rate = self.rates(step, steps, config) if self.rates else None
        return {name: rate(name) if rate else 1.0 for name in names}

    def under(self, convention):
        """The stage with every term under the convention; a term that has it not stays under the paper's."""
        official = convention == "official"
        terms = self.official if official and self.official else tuple(
            (weight, term.under(convention) if convention in term.conventions else term) for weight, term in self.terms)
        return replace(self, terms=terms, masking=self.official_masking if official else self.masking,
                       reads=self.official_reads or self.reads if official else self.reads,
                       trains=self.official_trains or self.trains if official else self.trains,
                       drops=self.official_drops if official else self.drops)

    def bound(self, student_layers, teacher_layers):
        """The stages that this one is for models of so many layers: terms of layers on the map's pairs."""
        stage = replace(self, terms=tuple((weight.of(student_layers) if isinstance(weight, Share) else weight, term)
                                          for weight, term in self.terms))
        if self.layer_map is None:
            return (stage,)
        pairs = self.layer_map(student_layers, teacher_layers)
        if not self.each_layer:
            return (stage.on(pairs),)
        parts = [pairs[i:i + 1] if self.each_layer == "alone" else pairs[:i + 1] for i in range(len(pairs))]
        return tuple(replace(stage.on(part), name=f"{self.name} {i + 1}",
                             rates=self.rates and partial(self.rates, layer=part[-1][0]))
                     for i, part in enumerate(parts))

    def on(self, pairs):
        return replace(self, terms=tuple((weight, term.on(pairs)) for weight, term in self.terms))


def _union(needs):
    together = Needs()
    for each in needs:
        together = together | each
    return together


def any_pair(student, teacher, **settings):
    """Every student can learn from every teacher."""


@dataclass(frozen=True)
class Method:
    """A paper: its stages, and what it asks of a pair of models.

    on_text(**settings), on_task(**settings): the stages of a distillation on a corpus, and on a task's examples; None
    where the paper has none. settings: the hyper-parameters that stand in the stages (temperatures, shares), with the
    values of the recipe. check(student, teacher, **settings) on two configurations says why a pair cannot work.
    start: how the student's weights begin, a name of `methods.start`. grid: the paper's search, {setting: values}.
    """

    name: str
    paper: str
    on_text: Callable | None = None
    on_task: Callable | None = None
    settings: dict = field(default_factory=dict)
    check: Callable = any_pair
    equal_heads: bool = False                       # whether `LxH` takes the teacher's number of heads
    start: str = "random"
    grid: dict = field(default_factory=dict)
    notes: str = ""

    def stages(self, task=None, **settings):
        """The stages as data. task: whether those on a task's examples; None takes whichever there are."""
        unknown = sorted(settings.keys() - self.settings.keys())
        if unknown:
            raise WrongUsage(f"need a setting of {self.name} out of {', '.join(self.settings) or 'none'}; got {unknown[0]}")
        build = self.on_task if task or (task is None and self.on_text is None) else self.on_text
        if build is None:
            raise WrongUsage(f"{self.name} learns on {'a corpus: leave --task out' if task else 'a task: name it with --task'}")
        return build(**self.settings | settings)

    def plan(self, student, teacher, *, task=None, convention="paper", **settings):
        """The stages for two configurations under a convention: what a run goes through."""
        stages = self.stages(task, **settings)
        for stage in stages:
            self.require(stage.under(convention), student, teacher)
        self.check(student, teacher, **self.settings | settings)
        return tuple(bound for stage in stages
                     for bound in stage.under(convention).bound(student.layers, teacher.layers))

    def start_of(self, student):
        """How a student of this configuration begins: on its teacher's body, where it stands on one."""
        return "first-layers" if student.takes_body else self.start

    def require(self, stage, student, teacher):
        """Raises: WrongUsage where the architecture of one of the two cannot have what a stage reads."""
        for who, config, needs in (("student", student, stage.student_needs), ("teacher", teacher, stage.teacher_needs)):
            missing = sorted({name for name, _ in needs.wanted} - set(config.features))
            if missing:
                raise WrongUsage(f"{self.name} reads {', '.join(missing)} of its {who}, which {config} cannot have: "
                                 f"it has {', '.join(config.features)}")
        if stage.head not in ("none", "task", *student.heads_known):
            raise WrongUsage(f"{self.name} needs a student with a {stage.head} head, which {student} cannot have")
