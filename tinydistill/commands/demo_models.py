"""The models of the demo and how each comes to be: one teacher, students, and the controls they have to beat."""

from dataclasses import dataclass

from tinydistill import hub
from tinydistill.commands import common
from tinydistill.data import inputs, stdlib, stdlib_parts, tokenizer as tokenizers
from tinydistill.errors import NothingToDo
from tinydistill.methods import bert, minilm
from tinydistill.students.bert import Bert, forward_flops
from tinydistill.students.configs import parse

VOCABULARY, LENGTH, MASKED = 1000, 64, 0.2
TEACHER_SIZE, TEACHER_STD, STUDENT_STD = "4x128x4", 0.04, 0.05
TEACHER_STEPS, STUDENT_STEPS, LEARNING_RATE = 2300, 600, 2e-3
DROPOUT = 0.0                                       # chosen on dev: runs this short are far from learning rows by heart


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
    std = TEACHER_STD if size == TEACHER_SIZE else STUDENT_STD
    return parse(size).but(vocabulary=material.tokenizer.get_vocab_size(), positions=LENGTH, initial_std=std,
                           dropout=DROPOUT, attention_dropout=DROPOUT, pooler=False, **changes)


def pretrained(args, name, size, steps, material):
    """A model trained by masked language modelling, or the finished one that an earlier run left."""
    recipe = bert.pretrain.recipes["laptop"].but(steps=steps, learning_rate=LEARNING_RATE, max_length=LENGTH)
    batches = inputs.plain(material.corpus, material.tokenizer, recipe, args.seed)
    return _trained(args, name, Bert(config(size, material, head="masked-lm"), args.seed), bert.pretrain, recipe,
                    lambda step: inputs.masked(batches.at(step), material.tokenizer, MASKED, args.seed, step), material)


def distilled(args, name, size, steps, teacher, material):
    """A student trained by MiniLM, or the finished one that an earlier run left."""
    recipe = minilm.LAPTOP.but(steps=steps, learning_rate=LEARNING_RATE, max_length=LENGTH)
    batches = inputs.plain(material.corpus, material.tokenizer, recipe, args.seed)
    stage, = minilm.method.stages
    return _trained(args, name, Bert(config(size, material), args.seed), stage, recipe, batches.at, material, teacher)


def _trained(args, name, model, stage, recipe, batch_at, material, teacher=None):
    path = args.output / name
    common.say(args, f"{name}: {model.config}, {recipe.steps:,} steps, {path}")
    try:
        common.carry_out(args, {"model": name, "corpus": "stdlib, without the rows of the tasks",
                                "rows": len(material.corpus)},
                         common.placed(args, model), stage, recipe, batch_at, output=path, resume=True,
                         teacher=teacher, tokenizer=material.tokenizer)
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
    vocabulary = {"vocabulary": VOCABULARY}
    teacher, student = parse(TEACHER_SIZE).but(**vocabulary), parse("2x128x4").but(**vocabulary)
    plain_step = 3 * forward_flops(student, LENGTH, MASKED)
    spent = (TEACHER_STEPS * 3 * forward_flops(teacher, LENGTH, MASKED)
             + STUDENT_STEPS * (3 * forward_flops(student, LENGTH) + forward_flops(teacher, LENGTH)))
    return round(spent / plain_step)
