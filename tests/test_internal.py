"""Internal representations: against the printed sums, PyTorch, a complex step, golden values and invariants.

Candidates are functions of (student, teacher, mask): scores (B, A, T, T), or hidden states (B, T, D), of which only
[CLS] counts.
"""

import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features)
from oracle import internal as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch, Needs
from tinydistill.losses import internal
from tinydistill.losses.convention import PAPER
from tinydistill.losses.internal import CONVENTIONS, attention_divergence, cosine_distance
from tinydistill_reference import internal as reference


def attention(student, teacher, mask, divisor=None):
    return attention_divergence(student, teacher, mask, divisor=divisor)


def summed(student, teacher, mask, divisor=None):
    return attention_divergence(student, teacher, mask, convention=CONVENTIONS["summed"], divisor=divisor)


def cosine(student, teacher, mask, divisor=None):
    return cosine_distance(student, teacher, mask, divisor=divisor)


PRINTED = {attention: reference.attention, cosine: reference.cosine,
           summed: lambda s, t, mask: reference.attention(s, t, mask, divisor="none")}
IN_TORCH = {attention: oracle.attention, summed: oracle.summed, cosine: oracle.cosine}
TERMS = {attention: internal.attention, summed: internal.attention.under("summed"), cosine: internal.cosine}
each_loss = pytest.mark.parametrize("loss", PRINTED, ids=lambda loss: loss.__name__)


def example(loss, seed=0, B=3, T=5, lengths=(5, 4, 2)):
    rng = np.random.default_rng(seed)
    shape = (B, T, 4) if loss is cosine else (B, 2, T, T)
    return [rng.standard_normal(shape) for _ in "st"] + [np.arange(T) < np.array(lengths)[:, None]]


def outside(loss, mask):
    """What must not matter: padding as query or as key; every token but [CLS]."""
    if loss is cosine:
        return np.broadcast_to(np.arange(mask.shape[1]) > 0, mask.shape)
    return ~np.broadcast_to(mask[:, None, :, None] & mask[:, None, None, :], (len(mask), 2, *mask.shape[1:] * 2))


# ---------------------------------------------------------------- three witnesses

@each_loss
def test_value_is_the_printed_sum(loss):
    assert_close64(loss(*example(loss)).array, PRINTED[loss](*example(loss)))


@each_loss
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(loss):
    against_torch(loss, IN_TORCH[loss], example(loss, 1), without_gradient=(1,))


@each_loss
def test_derivative_of_the_printed_sums_by_complex_step(loss):
    check_complex_step(loss, PRINTED[loss], example(loss, 2), [0])


def det(shape, a, b, c=1.0):
    """c sin(a k + b), k the row-major index."""
    return c * np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def test_golden_values():
    student, teacher = det((4, 1, 8), 0.3, 0.2), det((4, 1, 8), 0.5, 0.7)
    assert_within(cosine(student, teacher, np.ones((4, 1), bool)).array, 1.01294422047, 1e-11)
    scores, mask = (det((2, 2, 3, 3), 0.9, 0.3, 2), det((2, 2, 3, 3), 0.4, 1.1, 2)), np.ones((2, 3), bool)
    assert_within(attention(*scores, mask).array, 0.542352294191, 1e-12)
    assert_within(summed(*scores, mask).array, 0.542352294191 * 2 * 3, 1e-11)          # B = 2 sequences of T = 3


# ---------------------------------------------------------------- what must change nothing

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@each_loss
def test_padding_never_matters(loss, poison):
    arrays = example(loss, 3)
    hidden = outside(loss, arrays[2])
    check_padding_never_matters(loss, arrays, {0: hidden, 1: hidden}, poison)


@pytest.mark.parametrize("parts", [[[0], [1, 2, 3]], [[3, 1], [0, 2]]], ids=str)
@each_loss
def test_any_split_gives_the_whole_batchs_loss_and_gradient(loss, parts):
    arrays = example(loss, 4, B=4, lengths=(5, 2, 3, 4))
    count = TERMS[loss].divisor
    check_shards(loss, lambda mask: count(Batch(ids=np.zeros(mask.shape, int), mask=mask)), arrays, parts, (0, 1, 2))


@each_loss
def test_the_term_sums_over_its_pairs_of_layers(loss):
    rng, mask = np.random.default_rng(5), example(loss)[2]
    field = "hidden" if loss is cosine else "scores"
    student, teacher = ([Tensor(rng.standard_normal(example(loss)[0].shape), requires_grad=True) for _ in range(n)]
                        for n in (2, 4))
    term, batch = TERMS[loss].on([(0, 1), (1, 3)]), Batch(ids=np.zeros(mask.shape, int), mask=mask)
    assert term.student_needs == Needs.of(**{field: [0, 1]}) and term.teacher_needs == Needs.of(**{field: [1, 3]})
    value = term(features(mask, **{field: student}), features(mask, **{field: teacher}), batch, term.divisor(batch))
    pairs = [loss(student[s].array, teacher[t].array, mask).item() for s, t in ((0, 1), (1, 3))]
    assert_within(value.array, sum(pairs), 1e-14 * sum(pairs))
    assert [g is None for g in gradients(value, [*student, *teacher])] == [False] * 2 + [True] * 4


def test_equal_features_are_worth_nothing():
    for loss in PRINTED:
        _, teacher, mask = example(loss, 6)
        value, found = differentiated(loss, [teacher, teacher, mask])
        rounding = 1e-15 if loss is cosine else 0                       # 1 - <u, u>
        assert abs(value) <= rounding and np.abs(found[0]).max() <= rounding


def test_a_number_on_a_whole_row_of_scores_changes_nothing():
    student, teacher, mask = example(attention, 7)
    value, found = differentiated(attention, [student, teacher, mask])
    assert_same(differentiated(attention, [student + 8, teacher - np.arange(5.0)[:, None], mask]), (value, found))
    assert np.abs(found[0].sum(axis=3)).max() < 1e-15 < np.abs(found[0]).max()


def test_heads_are_compared_pairwise():
    student, teacher, mask = example(attention, 8)
    value = attention(student, teacher, mask).item()
    assert attention(student[:, ::-1], teacher[:, ::-1], mask).item() == pytest.approx(value, rel=1e-14)
    assert abs(attention(student[:, ::-1], teacher, mask).item() - value) > 1e-3 * value


def test_a_direction_has_no_length_and_no_gradient_along_itself():
    student, teacher, mask = example(cosine, 9)
    value, found = differentiated(cosine, [student, teacher, mask])
    scaled = differentiated(cosine, [3 * student, 0.2 * teacher, mask])
    assert_same((scaled[0], [3 * scaled[1][0], None, None]), (value, found))
    assert np.abs((found[0] * student).sum(axis=2)).max() < 1e-14 < np.abs(found[0]).max()
    assert_within(cosine(-student, student, mask).array, 2.0, 1e-14)


@pytest.mark.parametrize("side", [0, 1], ids=["student", "teacher"])
def test_a_vector_of_length_0_is_at_a_right_angle_and_has_a_finite_gradient(side):
    arrays = example(cosine, 10)
    arrays[side][:] = 0
    value, found = differentiated(cosine, arrays)
    assert value == 1 and np.isfinite(found[0]).all()


def test_the_cosine_is_summed_where_nothing_divides():
    arrays = example(cosine, 11)
    total = cosine_distance(*arrays, convention=PAPER.but(divisor="none")).item()
    assert total == pytest.approx(3 * cosine(*arrays).item(), rel=1e-14)


# ---------------------------------------------------------------- edges

@pytest.mark.parametrize("loss, place, shape, text", [
    (attention, 0, (3, 4, 5, 5), "the same (B, A, T): student (3, 4, 5, 5), teacher (3, 2, 5, 5), mask (3, 5)"),
    (attention, 2, (3, 6), "the same (B, A, T): student (3, 2, 5, 5), teacher (3, 2, 5, 5), mask (3, 6)"),
    (cosine, 0, (3, 5, 6), "the same (B, T, D): student (3, 5, 6), teacher (3, 5, 4), mask (3, 5)"),
    (cosine, 2, (1, 5), "the same (B, T, D): student (3, 5, 4), teacher (3, 5, 4), mask (1, 5)")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(loss, place, shape, text):
    arrays = example(loss)
    arrays[place] = np.ones(shape, arrays[place].dtype)
    with pytest.raises(ValueError, match=re.escape("need " + text)):
        loss(*arrays)


@each_loss
def test_a_mask_of_numbers_is_refused(loss):
    student, teacher, mask = example(loss)
    with pytest.raises(ValueError, match="need a mask of bool, True at real tokens; got int64"):
        loss(student, teacher, mask.astype(int))


def test_a_sequence_without_tokens_and_padding_in_the_place_of_cls_are_named():
    student, teacher, mask = example(attention, lengths=(5, 0, 2))
    with pytest.raises(ValueError, match="real token in every sequence; sequence 1 of the mask has none"):
        attention(student, teacher, mask)
    student, teacher, mask = example(cosine)
    with pytest.raises(ValueError, match=re.escape("need [CLS] at position 0 of every sequence; sequence 2 has")):
        cosine(student, teacher, mask[:, ::-1] | np.array([[1], [1], [0]], bool))
    with pytest.raises(ValueError, match="sequence 1 has padding there"):
        internal.cosine.divisor(Batch(ids=np.zeros((3, 5), int), mask=mask[:, ::-1]))


@each_loss
def test_a_device_computes_the_same_and_the_host_never_waits(loss, strict_cupy):
    check_device(loss, example(loss, 12), strict_cupy)
