"""The models of the demo and how each comes to be: one teacher, students, and the controls they have to beat."""

from dataclasses import dataclass

from tinydistill import hub
from tinydistill.commands import common
from tinydistill.data import inputs, stdlib, stdlib_parts, tokenizer as tokenizers
from tinydistill.errors import NothingToDo
from tinydistill.methods import bert, minilm, mlm_kd
from tinydistill.students.bert import Bert, forward_flops
from tinydistill.architectures import parse
from tinydistill.training.loop import Phase

VOCABULARY, LENGTH, MASKED = 1000, 64, 0.2
TEACHER_SIZE, INITIAL_STD = "4x128x4", 0.05
# Chosen by held-out loss. A masked language model of this size first learns word frequencies (5.9 nats) and stays there
# for a thousand updates; many small batches and a rate that keeps four layers stable bring it past that.
PRETRAINING = dict(batch_size=16, learning_rate=1e-3, beta2=0.98)
TEACHER_STEPS, STUDENT_STEPS = 4600, 600
DISTILLATION = dict(batch_size=32, learning_rate=2e-3)
DROPOUT = 0.0                                       # runs this short are far from learning rows by heart


@dataclass(frozen=True)
class Material:
    """What every model of the demo is made from."""

    tokenizer: object
    corpus: list                                    # rows that no task tests on
    unseen: list                                    # rows for held-out losses


def material():
    """The tokenizer and the rows: deterministic, from this machine's Python."""
    parts = stdlib_parts.split(stdlib.documents())
    return Material(tokenizers.train_wordpiece(parts.pretraining, VOCABULARY), parts.pretraining, parts.dev)


def config(size, material, **changes):
    """The configuration of one of the demo's models: nothing in it reads a pooler."""
    return parse(size).but(vocabulary=material.tokenizer.get_vocab_size(), positions=LENGTH, initial_std=INITIAL_STD,
                           dropout=DROPOUT, attention_dropout=DROPOUT, pooler=False, **changes)


def pretrained(args, name, size, steps, material, batch_size=PRETRAINING["batch_size"]):
    """A model trained by masked language modelling, or the finished one that an earlier run left."""
    recipe = bert.pretrain.recipes["laptop"].but(steps=steps, max_length=LENGTH, **PRETRAINING | {"batch_size": batch_size})
    return _trained(args, name, Bert(config(size, material, head="masked-lm"), args.seed), bert.pretrain, recipe,
                    masked_at(args, material, recipe), material)


def distilled(args, name, size, steps, teacher, material):
    """A student trained by MiniLM, or the finished one that an earlier run left."""
    recipe = minilm.RECIPES["laptop"].but(steps=steps, max_length=LENGTH, **DISTILLATION)
    batches = inputs.plain(material.corpus, material.tokenizer, recipe, args.seed)
    stage, = minilm.method.plan(parse(size), teacher.config)
    return _trained(args, name, Bert(config(size, material), args.seed), stage, recipe, batches.at, material, teacher)


def soft_labelled(args, name, size, steps, teacher, material):
    """A student trained by MLM-KD, the teacher's soft labels of masked tokens, or the one that an earlier run left."""
    recipe = minilm.RECIPES["laptop"].but(steps=steps, max_length=LENGTH, **DISTILLATION)
    stage, = mlm_kd.method.plan(parse(size), teacher.config)
    return _trained(args, name, Bert(config(size, material, head="masked-lm"), args.seed), stage, recipe,
                    masked_at(args, material, recipe), material, teacher)


def masked_at(args, material, recipe):
    """The masked batch of each step."""
    batches = inputs.plain(material.corpus, material.tokenizer, recipe, args.seed)
    choose = inputs.masking("bert", material.tokenizer, batches)
    return lambda step: inputs.masked(batches.at(step), choose, MASKED, args.seed, step)


def _trained(args, name, model, stage, recipe, batch_at, material, teacher=None):
    path = args.output / name
    common.say(args, f"{name}: {model.config}, {recipe.steps:,} steps, {path}")
    try:
        common.carry_out(args, {"model": name, "corpus": "stdlib, without the rows of the tasks",
                                "rows": len(material.corpus)},
                         common.placed(args, model), [Phase(stage, recipe, batch_at, teacher)], output=path, resume=True,
                         tokenizer=material.tokenizer)
    except NothingToDo:
        common.say(args, f"{name}: finished by an earlier run")
    return common.placed(args, hub.read(path))


def untrained(args, size, material):
    """The student as it is drawn."""
    return common.placed(args, Bert(config(size, material), args.seed))


def first_layers(args, size, teacher, material):
    """The teacher's embeddings and first layers, untouched: only possible at the teacher's own width."""
    student = Bert(config(size, material), args.seed)
    taken = {name: array for name, array in teacher.arrays().items() if name in student.named_parameters()}
    return common.placed(args, student.load(taken))


def steps_of_equal_compute():
    """Steps of masked language modelling that cost a student as much as its teacher and its distillation together.

    By matrix products at full length: a training step is three forwards, MiniLM's adds the teacher's forward.
    """
    teacher, student = (parse(size).but(vocabulary=VOCABULARY) for size in (TEACHER_SIZE, "2x128x4"))
    pretraining, distillation = PRETRAINING["batch_size"], DISTILLATION["batch_size"]                   # rows a step
    plain_step = pretraining * 3 * forward_flops(student, LENGTH, MASKED)
    spent = (TEACHER_STEPS * pretraining * 3 * forward_flops(teacher, LENGTH, MASKED)
             + STUDENT_STEPS * distillation * (3 * forward_flops(student, LENGTH) + forward_flops(teacher, LENGTH)))
    return round(spent / plain_step)
