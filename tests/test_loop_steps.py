"""What each step is told and weighs: dropout bits counted through the stages, weights, clipping or none, teachers asked."""

from dataclasses import replace

import numpy as np

from gradcheck import assert_within
from tinydistill.methods.bert import pretrain
from tinydistill.training.loop import Phase, train_phases
from tinydistill.training.step import batch_gradient
from toys import MINILM, RECIPE, Memory, batch_at, masked_batch_at, pair, toy


def test_steps_are_counted_through_the_stages():
    """So that the second stage does not drop the units of the first again."""
    student, teacher = pair()
    seen, call = [], type(student).__call__

    class Told(type(student)):
        def __call__(self, batch, run):
            seen.append((run.training, run.step))
            return call(self, batch, run)

    student.__class__ = Told
    recipe = RECIPE.but(steps=3)
    train_phases(student, [Phase(MINILM, recipe, batch_at, teacher)] * 2, quiet=True)
    assert seen == [(True, step) for step in range(6)]


def gradients_of(weights):
    student, teacher = pair()
    return batch_gradient(student, teacher, MINILM, batch_at(0), student.named_parameters(), seed=0, step=0, shards=2,
                          weights=weights)


def test_terms_are_weighed_as_told():
    """g(a, b) = a g(1, 0) + b g(0, 1), and without weights those of the stage, which are 1."""
    (values, first, _), (_, second, _) = gradients_of([1.0, 0.0]), gradients_of([0.0, 1.0])
    for weights, (a, b) in (([0.5, 3.0], (0.5, 3.0)), (None, (1.0, 1.0))):
        found_values, found, _ = gradients_of(weights)
        assert found_values == values                                   # of each term, unweighted
        for name, gradient in found.items():
            if gradient is not None:
                want = a * first[name] + b * second[name]
                assert_within(gradient, want, 1e-12 * max(np.abs(want).max(), 1e-3), name)


def test_no_clipping_is_no_clipping():
    """A norm of 0 stands for none, and one that is never reached does the same."""
    ends = []
    for clip in (0.0, 1e9, 1e-3):
        student, teacher = pair()
        train_phases(student, [Phase(MINILM, RECIPE.but(steps=3, clip=clip, optimizer="adadelta"), batch_at, teacher)], quiet=True)
        ends.append(student.arrays())
    for name in ends[0]:
        np.testing.assert_array_equal(ends[0][name], ends[1][name], err_msg=name)
    assert any((ends[0][name] != ends[2][name]).any() for name in ends[0])


def test_a_teacher_is_asked_only_where_something_is_needed_of_it():
    def never(batch, run):
        raise AssertionError("nobody needs the teacher here")

    student, memory = toy(8, 2, 0, head="masked-lm"), Memory()
    train_phases(student, [Phase(replace(pretrain), RECIPE.but(steps=2), masked_batch_at, never)], directory=memory, quiet=True)
    assert set(memory.lines[-1]) >= {"masked_lm", "loss"}
