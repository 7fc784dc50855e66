"""Attention transfer: against the printed sums, PyTorch, a complex step, golden values and what must not change it.

Candidates are functions of (student, teacher, mask): hidden states (B, T, D), each side with its own D.
"""

import functools
import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features, rows_of_padding)
from oracle import attention_transfer as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch
from tinydistill.losses import attention_transfer as losses
from tinydistill.losses.attention_transfer import (CONVENTIONS_OFFICIAL, attention_transfer,
                                                   attention_transfer_official)
from tinydistill.losses.convention import PAPER
from tinydistill_reference import attention_transfer as reference


def maps(student, teacher, mask, divisor=None):
    return attention_transfer(student, teacher, mask, divisor=divisor)


def official(student, teacher, mask, divisor=None):
    return attention_transfer_official(student, teacher, mask, divisor=divisor)


def real(student, teacher, mask, divisor=None):
    """The published code's loss with padding left out."""
    return attention_transfer_official(student, teacher, mask, convention=CONVENTIONS_OFFICIAL["real"], divisor=divisor)


PRINTED = {maps: reference.maps, official: reference.maps_official,
           real: lambda s, t, mask: reference.maps_official(s, t, mask, rows="real")}
IN_TORCH = {maps: oracle.maps, real: oracle.real, official: oracle.official}
TERMS = {maps: losses.maps, real: losses.maps_official.under("real"), official: losses.maps_official}
each_loss = pytest.mark.parametrize("loss", PRINTED, ids=lambda loss: loss.__name__)


def example(seed=0, B=3, T=5, D=4, teacher_D=6, lengths=(5, 4, 2)):
    n = np.random.default_rng(seed).standard_normal
    return [n((B, T, D)), n((B, T, teacher_D)), np.arange(T) < np.array(lengths)[:, None]]


# ---------------------------------------------------------------- three witnesses

@each_loss
def test_value_is_the_printed_sum(loss):
    assert_close64(loss(*example()).array, PRINTED[loss](*example()))


@each_loss
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(loss):
    against_torch(loss, IN_TORCH[loss], example(1), without_gradient=(1,))


@each_loss
def test_derivative_of_the_printed_sums_by_complex_step(loss):
    check_complex_step(loss, PRINTED[loss], example(2), [0])


def det(shape, a, b):
    """sin(a k + b), k the row-major index."""
    return np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def test_golden_values_of_feature_maps_of_images():
    student, teacher = (x.reshape(*x.shape[:2], 16).transpose(0, 2, 1)                  # (B, C, H, W) -> (B, H W, C)
                        for x in (det((2, 3, 4, 4), 0.21, 0.5), det((2, 5, 4, 4), 0.37, 0.2)))
    mask = np.ones((2, 16), bool)
    assert_within(maps(student, teacher, mask).array, 0.614445508544, 1e-12)
    for loss in (official, real):
        assert_within(loss(student, teacher, mask).array, 0.0236097749784, 1e-13)


# ---------------------------------------------------------------- what must change nothing

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("mask", [example()[2], example()[2][:, ::-1], np.tile([1, 0, 1, 1, 0], (3, 1)) == 1],
                         ids=["right", "left", "holes"])
@pytest.mark.parametrize("loss", [maps, real], ids=lambda loss: loss.__name__)
def test_padding_never_matters(loss, mask, poison):
    arrays = [*example(3)[:2], mask]
    check_padding_never_matters(loss, arrays, {i: rows_of_padding(arrays[i], mask) for i in (0, 1)}, poison)


def test_more_padding_changes_nothing_but_in_published_code():
    student, teacher, mask = example(4)
    longer = [np.pad(x, ((0, 0), (0, 3), (0, 0)), constant_values=9.0) for x in (student, teacher)]
    longer.append(np.pad(mask, ((0, 0), (0, 3))))
    for loss in (maps, real):
        value, found = differentiated(loss, longer)
        assert_same((value, [found[0][:, :5], None, None]), differentiated(loss, [student, teacher, mask]))
    assert official(*longer).item() < 0.5 * official(student, teacher, mask).item()     # both sides: 9 everywhere


@pytest.mark.parametrize("parts", [[[0], [1, 2, 3]], [[3, 1], [0, 2]]], ids=str)
@each_loss
def test_any_split_gives_the_whole_batchs_loss_and_gradient(loss, parts):
    arrays = example(5, B=4, lengths=(5, 2, 3, 4))
    count = TERMS[loss].divisor
    check_shards(loss, lambda mask: count(Batch(ids=np.zeros(mask.shape, int), mask=mask)), arrays, parts, (0, 1, 2))


def test_each_convention_counts_what_it_divides_by():
    batch = Batch(ids=np.zeros((3, 5), int), mask=example()[2])
    assert [TERMS[loss].divisor(batch) for loss in (maps, real, official)] == [3, 11, 15]
    total = attention_transfer(*example(), convention=PAPER.but(divisor="none")).item()
    assert total == pytest.approx(3 * maps(*example()).item(), rel=1e-14)


@each_loss
def test_the_term_sums_over_its_pairs_of_layers(loss):
    rng, mask = np.random.default_rng(6), example()[2]
    student, teacher = ([Tensor(rng.standard_normal((3, 5, D)), requires_grad=True) for _ in range(n)]
                        for n, D in ((2, 4), (4, 6)))
    term, batch = TERMS[loss].on([(0, 1), (1, 3)]), Batch(ids=np.zeros(mask.shape, int), mask=mask)
    value = term(features(mask, hidden=student), features(mask, hidden=teacher), batch, term.divisor(batch))
    pairs = [loss(student[s].array, teacher[t].array, mask).item() for s, t in ((0, 1), (1, 3))]
    assert_within(value.array, sum(pairs), 1e-14 * sum(pairs))
    assert [g is None for g in gradients(value, [*student, *teacher])] == [False] * 2 + [True] * 4


@each_loss
def test_only_where_a_layer_is_active_counts(loss):
    student, teacher, mask = example(7)
    value, found = differentiated(loss, [student, teacher, mask])
    scaled = differentiated(loss, [3 * student, 0.2 * teacher, mask])
    assert_same((scaled[0], [3 * scaled[1][0], None, None]), (value, found))
    rotation = np.linalg.qr(np.random.default_rng(8).standard_normal((4, 4)))[0]        # of the channels
    assert_same(differentiated(loss, [student @ rotation, teacher, mask]), (value, [found[0] @ rotation, None, None]))
    twice = np.concatenate([teacher, teacher], axis=2)
    assert_same(differentiated(loss, [student, twice, mask]), (value, found))


@each_loss
def test_a_layer_norm_without_scale_and_shift_leaves_flat_maps(loss):
    student, teacher, mask = example(8)
    normed = [(x - x.mean(axis=2, keepdims=True)) / x.std(axis=2, keepdims=True) for x in (student, teacher)]
    assert loss(*normed, mask).item() < 1e-15 < loss(normed[0] * [0.5, 1, 1, 1], normed[1], mask).item()


# ---------------------------------------------------------------- edges

@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@each_loss
def test_equal_maps_are_worth_nothing_although_a_length_has_no_derivative_there(loss, dtype):
    student, teacher, mask = example(9)
    student, teacher = student.astype(dtype), teacher.astype(dtype)
    value, found = differentiated(loss, [teacher, teacher, mask])
    assert value == 0 and (found[0] == 0).all()
    student[1] = 0
    student[1, :, 1] = teacher[1, :, 3] = 2.0                           # the same map in other channels ...
    teacher[1, :, :3] = teacher[1, :, 4:] = 0
    value, found = differentiated(loss, [student, teacher, mask])       # ... of one sequence of three
    assert value.dtype == found[0].dtype == dtype and value > 0
    assert (found[0][1] == 0).all() and np.isfinite(found[0]).all() and found[0][[0, 2]].any()


@each_loss
def test_a_layer_that_is_not_active_has_a_finite_gradient(loss):
    student, teacher, mask = example(10)
    student[0] = teacher[2] = 0
    value, found = differentiated(loss, [student, teacher, mask])
    assert np.isfinite(value) and np.isfinite(found[0]).all()


def test_the_gradient_keeps_its_size_near_equality():
    student, teacher, mask = example(11)
    for step in (1e-3, 1e-6):
        value, found = differentiated(maps, [teacher + step * student.repeat(2, axis=2)[:, :, :6], teacher, mask])
        assert 0.01 * step < value < step and np.abs(found[0]).max() > 0.1


@pytest.mark.parametrize("place, shape, text", [
    (0, (3, 6, 4), "the same (B, T): student (3, 6, 4), teacher (3, 5, 6), mask (3, 5)"),
    (1, (2, 5, 6), "the same (B, T): student (3, 5, 4), teacher (2, 5, 6), mask (3, 5)"),
    (2, (1, 5), "the same (B, T): student (3, 5, 4), teacher (3, 5, 6), mask (1, 5)")])
@each_loss
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(loss, place, shape, text):
    arrays = example()
    arrays[place] = np.ones(shape, arrays[place].dtype)
    with pytest.raises(ValueError, match=re.escape("need " + text)):
        loss(*arrays)


@each_loss
def test_a_mask_of_numbers_is_refused(loss):
    student, teacher, mask = example()
    with pytest.raises(ValueError, match="need a mask of bool, True at real tokens; got int64"):
        loss(student, teacher, mask.astype(int))


def test_a_sequence_without_tokens_is_named():
    with pytest.raises(ValueError, match="real token in every sequence; sequence 1 of the mask has none"):
        maps(*example(lengths=(5, 0, 2)))


@each_loss
def test_a_device_computes_the_same_and_the_host_never_waits(loss, strict_cupy):
    check_device(functools.partial(loss, divisor=3), example(12), strict_cupy)
