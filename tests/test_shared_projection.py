"""Shared projections of weights: printed sums, PyTorch, complex steps, blocks, shards, a device, what does not fit."""

import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest

import loss_checks
from gradcheck import assert_close64, assert_within
from loss_checks import differentiated
from oracle import shared_projection as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch, Needs
from tinydistill.losses import shared_projection
from tinydistill.losses.shared_projection import down_projection_loss, up_projection_loss
from tinydistill_reference import shared_projection as reference

S, T, V = 2, 3, 7                                   # the student's width, the teacher's, a vocabulary
BLOCKS = {                                          # of each weight: rows and columns in units of the width
    "query": (1, 1), "up": (4, 1), "down": (1, 4), "bias": (1, None), "up.bias": (4, None), "words": (None, 1),
    "decoder.bias": (None, None)}


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def weights(width, seed):
    """{name: weight} of a model of that width."""
    made = {}
    for i, (name, (rows, columns)) in enumerate(BLOCKS.items()):
        rows = rows * width if rows else V
        made[name] = normal(rows, columns * width, seed=seed + i) if columns else normal(rows, seed=seed + i)
    return made


STUDENT, TEACHER = weights(S, 10), weights(T, 20)
ARRAYS = [*STUDENT.values(), *TEACHER.values()]
MAPS = {"down": [normal(S, T), normal(T, S)], "up": [normal(T, S, seed=1), normal(S, T, seed=1)]}
LOSSES = {"down": down_projection_loss, "up": up_projection_loss}
N = len(BLOCKS)
each_loss = pytest.mark.parametrize("name", LOSSES)


def printed(name):
    """The printed sum as a function of the same arguments: there each weight is one of its own."""
    def called(student, teacher, u, v):
        return getattr(reference, name)(u, v, **{f"student_{role}": w for role, w in student.items()},
                                        **{f"teacher_{role}": w for role, w in teacher.items()})
    return called


def on_arrays(loss):
    """The loss as a function of arrays: the student's weights, the teacher's, u, v."""
    def called(*arrays, **settings):
        return loss(dict(zip(BLOCKS, arrays[:N])), dict(zip(BLOCKS, arrays[N:2 * N])), *arrays[2 * N:], **settings)
    return functools.update_wrapper(called, loss) if hasattr(loss, "__name__") else called


def in_torch(name):
    """Its twin; a vector becomes a matrix of one column."""
    def twin(*arrays):
        matrices = [x if x.ndim == 2 else x[:, None] for x in arrays]
        return on_arrays(functools.partial(getattr(oracle, name), blocks=BLOCKS))(*matrices)
    return twin


@each_loss
def test_value_is_the_printed_sum(name):
    value = LOSSES[name](STUDENT, TEACHER, *MAPS[name])
    assert_close64(value.array, printed(name)(STUDENT, TEACHER, *MAPS[name]))


@each_loss
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(name):
    against_torch(on_arrays(LOSSES[name]), in_torch(name), ARRAYS + MAPS[name], without_gradient=range(N, 2 * N))


@each_loss
def test_derivative_of_the_printed_sums_by_complex_step(name):
    loss_checks.check_complex_step(on_arrays(LOSSES[name]), on_arrays(printed(name)), ARRAYS + MAPS[name],
                                   [*range(N), 2 * N, 2 * N + 1])


@each_loss
def test_a_device_computes_the_same_and_the_host_never_waits(name, strict_cupy):
    loss_checks.check_device(on_arrays(LOSSES[name]), ARRAYS + MAPS[name], strict_cupy)


def test_a_gradient_by_hand():
    """With E = U W^T V - W^S: -2 E for the student, 2 E (W^T V)' for U, 2 (U W^T)' E for V."""
    student, teacher, (u, v) = {"w": normal(S, S)}, {"w": normal(T, T)}, MAPS["down"]
    tensors = [Tensor(x, True) for x in (student["w"], u, v)]
    error = u @ teacher["w"] @ v - student["w"]
    value = down_projection_loss({"w": tensors[0]}, teacher, *tensors[1:])
    by_hand = -2 * error, 2 * error @ (teacher["w"] @ v).T, 2 * (u @ teacher["w"]).T @ error
    for got, want in zip(gradients(value, tensors), by_hand):
        assert_close64(got, want)


def test_projections_that_fit_are_worth_nothing():
    """A student that is the teacher's projection, and a teacher that is the student's."""
    for name, (small, large) in (("down", (STUDENT, TEACHER)), ("up", (TEACHER, STUDENT))):
        fits = {key: reference.projected(reference.matrix(large[key]), reference.matrix(small[key]).shape, *MAPS[name])
                .reshape(small[key].shape) for key in BLOCKS}
        pair = (fits, TEACHER) if name == "down" else (STUDENT, fits)
        value, found = differentiated(on_arrays(LOSSES[name]), [*pair[0].values(), *pair[1].values(), *MAPS[name]])
        assert value < 1e-25 and max(np.abs(g).max() for g in found if g is not None) < 1e-12


def test_equal_weights_of_models_of_one_width_need_no_map():
    """There every axis is left alone."""
    for name, loss in LOSSES.items():
        assert loss(STUDENT, STUDENT, np.full((S, S), np.nan), np.full((S, S), np.nan)).item() == 0
        moved = {key: w + 0.5 for key, w in STUDENT.items()}
        assert_within(loss(moved, STUDENT, *MAPS[name]).array, 0.25 * sum(w.size for w in STUDENT.values()), 1e-12)


# ---------------------------------------------------------------- terms

def projections(term, seed=0):
    """A learned map from student to teacher width under each name of the term."""
    return {name: SimpleNamespace(weight=Tensor(normal(T, S, seed=seed + i), True), bias=None)
            for i, name in enumerate(term.projection_names)}


@each_loss
def test_the_terms_maps_all_lead_from_student_to_teacher_width(name):
    term = getattr(shared_projection, name)
    assert term.reads_parameters and term.student_needs == term.teacher_needs == Needs()
    assert len(term.projection_names) == 2 and term.on([(0, 1)]) is term
    maps = projections(term)
    first, second = (maps[name].weight.array for name in term.projection_names)
    batch = Batch(ids=np.zeros((5, 3), int), mask=np.ones((5, 3), bool))
    u, v = (first.T, second) if name == "down" else (first, second.T)
    value = term(STUDENT, TEACHER, batch, term.divisor(batch), maps)
    assert_close64(value.array, LOSSES[name](STUDENT, TEACHER, u, v).array)
    assert all(np.abs(g).max() > 0 for g in gradients(value, [m.weight for m in maps.values()]))


@each_loss
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_every_shard_bears_the_share_that_its_sequences_are(name, shards):
    term = getattr(shared_projection, name)
    batch = Batch(ids=np.zeros((5, 3), int), mask=np.ones((5, 3), bool))
    maps, divisor = projections(term), term.divisor(batch)
    total = sum(term(STUDENT, TEACHER, part, divisor, maps) for part in batch.split(shards))
    assert divisor == 5
    assert_close64(total.array, term(STUDENT, TEACHER, batch, divisor, maps).array)


@pytest.mark.parametrize("student, teacher, text", [
    ({"a": normal(S, S)}, {"b": normal(T, T)}, "need the same weights on both sides, at least one; "
                                               "on one side alone: ['a', 'b']"),
    ({}, {}, "at least one; on one side alone: []"),
    ({"w": normal(S, S)}, {"w": normal(T, T + 1)}, "w: need columns in blocks of 3 that become 2: 4 cannot become 2;"),
    ({"w": normal(4, S)}, {"w": normal(V, T)}, "w: need rows in blocks of 3 that become 2: 7 cannot become 4; leave"),
    ({"w": normal(S, S)}, {"w": normal(2 * T, T)}, "w: need rows in blocks of 3 that become 2: 6 cannot become 2;")])
def test_weights_that_do_not_match_are_named(student, teacher, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        down_projection_loss(student, teacher, *MAPS["down"])
