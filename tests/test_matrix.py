"""Who learns from whom by what: every pair that the matrix says runs takes a step, every other says why in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tinydistill import architectures, cli
from tinydistill.commands import matrix
from tinydistill.features import IGNORED, Batch
from tinydistill.methods import METHODS
from tinydistill.methods.projections import Projections
from tinydistill.methods.start import copied
from tinydistill.methods.stage import MASKED, TASK, TEXT
from tinydistill.students.bodies import on_body
from tinydistill.students.heads import with_head
from tinydistill.training.loop import Phase, train_phases

VOCABULARY, T = 23, 7
CASES = [(name, where) for name, method in METHODS.items()
         for where, build in (("text", method.on_text), ("task", method.on_task)) if build]


def batch_at(stage, head):
    """Ids that are padding in no family, in sequences of different lengths, with what the stage's head predicts."""
    rng, B = np.random.default_rng(3), 3
    mask = np.arange(T) < np.array([T, 4, 5])[:, None]
    batch = Batch(ids=np.where(mask, rng.integers(3, VOCABULARY, (B, T)), 1), mask=mask, rows=np.arange(B),
                  indices=np.arange(B), token_types=(np.arange(T) >= 3)[None].repeat(B, 0).astype(int) * mask)
    if stage.reads == TEXT:
        return batch
    if stage.reads == TASK and head == "sequence":
        return replace(batch, labels=np.array([0, 1, 0]))
    some = mask & (np.arange(T) % 2 == 1)
    labels = np.where(some, batch.ids % 2 if stage.reads == TASK else batch.ids, IGNORED)
    if stage.reads == TASK:
        return replace(batch, labels=labels)
    return replace(batch, labels=labels, positions=np.flatnonzero(some if stage.reads == MASKED else mask))


def small(config):
    fitted = architectures.fitted(config, vocabulary=VOCABULARY, initial_std=0.2, length=T)
    return fitted.but(positions=fitted.positions - fitted.longest + T) if "positions" in fitted.as_dict() else fitted


def head_of(stage, taught):
    return (taught.head, taught.labels) if stage.head == "task" else (stage.head, ())


def assert_takes_a_step(method, task, student, taught, start):
    """One step a stage, after which something has moved and everything is finite."""
    student, taught = small(student), small(taught)
    if getattr(student, "takes_body", False):
        student = on_body(student, taught)
    plan = method.plan(student, taught, task=task)
    teacher = architectures.build(taught, 1)
    model = copied(with_head(architectures.build(student, 2), *head_of(plan[0], taught), seed=2), teacher, start)
    maps = Projections(plan, student, taught, 2)
    recipe = replace(plan[0].recipes["paper"], steps=1, batch_size=3, learning_rate=0.01, warmup=0, schedule="constant")
    phases = [Phase(stage, recipe, lambda step, stage=stage: batch_at(stage, taught.head), teacher,
                    lambda model, stage=stage: with_head(model, *head_of(stage, taught), seed=2)) for stage in plan]
    student, metrics = train_phases(model, phases, projections=maps, quiet=True)
    assert all(np.isfinite(value) for one in metrics for value in one.values())
    assert all(np.isfinite(array).all() for array in student.arrays().values())


@pytest.mark.parametrize("name, where", CASES)
def test_what_the_matrix_says_runs_does_run(name, where):
    """From a BERT into everything, from everything into a BERT, and within each architecture."""
    method, task = METHODS[name], where == "task"
    together = {(student, "") for student in architectures.SIZED} | {("", teacher) for teacher in architectures.SIZED} \
        | {(prefix, prefix) for prefix in architectures.SIZED}
    ran = 0
    for student, teacher in sorted(together):
        config, taught, reason, start = matrix.pair(method, task, teacher, student)
        assert bool(reason) == (taught is None)
        if taught is None:
            assert "\n" not in reason and len(reason) > 20
        else:
            assert_takes_a_step(method, task, config, taught, start)
            ran += 1
    assert ran


def test_the_command_prints_three_views_and_every_reason(capsys):
    assert cli.main(["matrix", "--method", "minilm"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("minilm on text") == 3 and "a BERT teaches" in printed
    assert "1  reads more than the logits of its student, which BERT-Vision cannot have\n" in printed
    assert cli.main(["matrix", "--method", "minilm", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == len(architectures.SIZED) ** 2
    assert {row["reason"] for row in rows} >= {
        "", "minilm reads keys, queries, values of its student, which BiLSTM 1x48 cannot have: it has logits"}
    assert cli.main(["matrix", "--method", "nothing"]) == 2
