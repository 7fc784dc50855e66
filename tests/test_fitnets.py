"""FitNets: the hint and the softened labels, against the printed sums, PyTorch, a complex step and golden values.

A hint is a function of (student, teacher, weight, bias, mask), hidden states and a regressor; L_KD of (student,
teacher, mask), logits (N, C) and which rows count.
"""

import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated, features, rows_of_padding)
from oracle import fitnets as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch, Features, Needs
from tinydistill.losses import fitnets
from tinydistill.losses.fitnets import CONVENTIONS, hint_loss, softened_cross_entropy
from tinydistill_reference import fitnets as reference

LABELS = np.array([3, 0, 1, 1])


def hint(student, teacher, weight, bias, mask, divisor=None):
    return hint_loss(student, teacher, mask, weight, bias, divisor=divisor)


def official(student, teacher, weight, bias, mask, divisor=None):
    return hint_loss(student, teacher, mask, weight, bias, convention=CONVENTIONS["official"], divisor=divisor)


PRINTED = {hint: lambda s, t, R, c, mask: reference.hint(s, t, mask, R, c),
           official: lambda s, t, R, c, mask: reference.hint(s, t, mask, R, c, rows="all")}
IN_TORCH = {hint: oracle.hint, official: oracle.official}
TERMS = {hint: fitnets.hint, official: fitnets.hint.under("official")}
each_hint = pytest.mark.parametrize("loss", PRINTED, ids=lambda loss: loss.__name__)


def example(seed=0, B=3, T=5, D=4, teacher_D=6, lengths=(5, 4, 2)):
    n, mask = np.random.default_rng(seed).standard_normal, np.arange(T) < np.array(lengths)[:, None]
    return [n((B, T, D)), n((B, T, teacher_D)), n((teacher_D, D)), n(teacher_D), mask]


# ---------------------------------------------------------------- the hint: three witnesses

@each_hint
def test_value_is_the_printed_sum(loss):
    assert_close64(loss(*example()).array, PRINTED[loss](*example()))


@each_hint
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(loss):
    against_torch(loss, IN_TORCH[loss], example(1), without_gradient=(1,))


@each_hint
def test_derivative_of_the_printed_sums_by_complex_step(loss):
    check_complex_step(loss, PRINTED[loss], example(2), [0, 2, 3])


def det(shape, a, b, c=1.0):
    """c sin(a k + b), k the row-major index."""
    return c * np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def test_golden_value_and_the_regressors_gradient():
    student, teacher = det((5, 1, 4), 0.6, 0.1), det((5, 1, 6), 0.45, 0.6)              # five vectors
    weight, bias = det((6, 4), 0.8, 0.2, 0.5), det((6,), 0.3, 0.3, 0.1)
    for loss in (hint, official):
        value, found = differentiated(loss, [student, teacher, weight, bias, np.ones((5, 1), bool)], upstream=1.0)
        assert_within(value, 3.01020455046, 1e-11)
        assert_within(np.linalg.norm(found[2]), 2.5961118461, 1e-10)


# ---------------------------------------------------------------- the hint: what must change nothing

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("mask", [example()[4], example()[4][:, ::-1], np.tile([1, 0, 1, 1, 0], (3, 1)) == 1],
                         ids=["right", "left", "holes"])
def test_padding_never_matters(mask, poison):
    arrays = [*example(3)[:4], mask]
    check_padding_never_matters(hint, arrays, {i: rows_of_padding(arrays[i], mask) for i in (0, 1)}, poison)


def test_padding_matters_where_the_published_convention_counts_it():
    student, teacher, weight, bias, mask = example(4)
    values = [loss(student, teacher, weight, bias, mask).item() for loss in (hint, official)]
    teacher[~mask] += 10
    assert hint(student, teacher, weight, bias, mask).item() == values[0]
    assert official(student, teacher, weight, bias, mask).item() > 2 * values[1]


@pytest.mark.parametrize("parts", [[[0], [1, 2, 3]], [[3, 1], [0, 2]]], ids=str)
@each_hint
def test_any_split_gives_the_whole_batchs_loss_and_gradient(loss, parts):
    arrays = example(5, B=4, lengths=(5, 1, 3, 2))
    count = TERMS[loss].divisor
    check_shards(loss, lambda mask: count(Batch(ids=np.zeros(mask.shape, int), mask=mask)), arrays, parts, (0, 1, 4))


def test_a_hint_that_is_reached_is_worth_nothing():
    student, _, weight, bias, mask = example(6)
    value, found = differentiated(hint, [student, student @ weight.T + bias, weight, bias, mask])
    assert value < 1e-28 and all(np.abs(found[i]).max() < 1e-13 for i in (0, 2, 3))


def test_a_rotation_of_the_teacher_is_taken_up_by_the_regressor():
    student, teacher, weight, bias, mask = example(7)
    rotation = np.linalg.qr(np.random.default_rng(8).standard_normal((6, 6)))[0]
    value, found = differentiated(hint, [student, teacher, weight, bias, mask])
    assert_same(differentiated(hint, [student, teacher @ rotation, rotation.T @ weight, bias @ rotation, mask]),
                (value, [found[0], None, rotation.T @ found[2], found[3] @ rotation, None]))
    twice = differentiated(hint, [2 * student, 2 * teacher, weight, 2 * bias, mask])
    assert_same(twice, (4 * value, [2 * found[0], None, 4 * found[2], 2 * found[3], None]))


def test_without_a_bias_it_is_0():
    student, teacher, weight, bias, mask = example(9)
    assert hint(student, teacher, weight, None, mask).item() == hint(student, teacher, weight, 0 * bias, mask).item()


def test_the_term_has_a_regressor_for_each_of_its_pairs():
    rng, mask = np.random.default_rng(10), example()[4]

    def tensor(*shape):
        return Tensor(rng.standard_normal(shape), requires_grad=True)

    student, teacher = [tensor(3, 5, 4) for _ in range(2)], [tensor(3, 5, 6) for _ in range(4)]
    term, batch = fitnets.hint.on([(0, 1), (1, 3)]), Batch(ids=np.zeros(mask.shape, int), mask=mask)
    assert term.projection_names == ("fitnets.regressor.0", "fitnets.regressor.1") and term.projection_bias
    assert term.divisor(batch) == 11
    regressors = {name: SimpleNamespace(weight=tensor(6, 4), bias=tensor(6)) for name in term.projection_names}
    value = term(features(mask, hidden=student), features(mask, hidden=teacher), batch, 11, regressors)
    pairs = [hint(student[s].array, teacher[t].array, regressor.weight.array, regressor.bias.array, mask).item()
             for (s, t), regressor in zip(term.pairs, regressors.values())]
    assert_within(value.array, sum(pairs), 1e-14 * sum(pairs))
    learned = [part for regressor in regressors.values() for part in (regressor.weight, regressor.bias)]
    assert [g is None for g in gradients(value, [*student, *learned, *teacher])] == [False] * 6 + [True] * 4


@pytest.mark.parametrize("place, shape, text", [
    (0, (3, 6, 4), "the same (B, T): student (3, 6, 4), teacher (3, 5, 6), mask (3, 5)"),
    (4, (1, 5), "the same (B, T): student (3, 5, 4), teacher (3, 5, 6), mask (1, 5)"),
    (2, (4, 6), "a learned map (D', D), with a bias (D',) or none: weight (4, 6), bias (6,), student (3, 5, 4), teacher (3, 5, 6)")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(place, shape, text):
    arrays = example()
    arrays[place] = np.ones(shape, arrays[place].dtype)
    with pytest.raises(ValueError, match=re.escape("need " + text)):
        hint(*arrays)


@each_hint
def test_a_device_computes_the_same_and_the_host_never_waits(loss, strict_cupy):
    check_device(functools.partial(loss, divisor=11), example(11), strict_cupy)


# ---------------------------------------------------------------- softened labels

def mixed(student, teacher, mask, divisor=None, labels=LABELS):
    return softened_cross_entropy(student, teacher, mask, labels, lam_target=0.7, lam_teach=2.5, temperature=2.0,
                                  divisor=divisor)


def softened(student, teacher, mask, divisor=None):
    """tau as it is by default: 3."""
    return softened_cross_entropy(student, teacher, mask, divisor=divisor)


SOFT_PRINTED = {mixed: lambda s, t, mask: reference.softened_cross_entropy(s, t, LABELS, 0.7, 2.5, 2.0),
                softened: lambda s, t, mask: reference.softened(s, t)}
SOFT_IN_TORCH = {mixed: lambda s, t, mask: oracle.softened_with_labels(s, t, LABELS, 0.7, 2.5, 2.0),
                 softened: lambda s, t, mask: oracle.softened(s, t, 3.0)}
each_softened = pytest.mark.parametrize("loss", SOFT_PRINTED, ids=lambda loss: loss.__name__)


def logits(seed=0, N=4, C=5):
    rng = np.random.default_rng(seed)
    return [2 * rng.standard_normal((N, C)), 3 * rng.standard_normal((N, C)), np.ones(N, bool)]


@each_softened
def test_softened_value_is_the_printed_sum(loss):
    assert_close64(loss(*logits()).array, SOFT_PRINTED[loss](*logits()))


@each_softened
def test_softened_equals_pytorch_and_the_teacher_gets_no_gradient(loss):
    against_torch(loss, SOFT_IN_TORCH[loss], logits(1), without_gradient=(1,))


@each_softened
def test_softened_derivative_by_complex_step(loss):
    check_complex_step(loss, SOFT_PRINTED[loss], logits(2), [0])


def test_golden_values_of_soft_and_hard_labels():
    student, teacher, rows = det((3, 4), 0.7, 0.1, 2), det((3, 4), 1.3, 0.5, 2), np.ones(3, bool)
    soft = softened_cross_entropy(student, teacher, rows, temperature=1.0)
    assert_within(soft.array, 1.64669937053, 1e-11)
    hard = softened_cross_entropy(student, teacher, rows, np.array([0, 3, 1]), lam_teach=0.0)
    assert_within(hard.array, 2.59894055325, 1e-11)


def test_there_is_no_tau_squared():
    """For tau -> infinity the gradient of a row is (z_S - z_T) / (C tau^2), of centred logits."""
    student, teacher, rows = logits(3)
    centred = [x - x.mean(axis=1, keepdims=True) for x in (student, teacher)]
    tau = 1e4
    _, found = differentiated(functools.partial(softened_cross_entropy, temperature=tau), [student, teacher, rows])
    want = -2.5 * (centred[0] - centred[1]) / (4 * 5 * tau ** 2)
    assert_within(found[0], want, 1e-3 * np.abs(want).max())


def test_equal_predictions_leave_the_teachers_entropy_and_no_gradient():
    _, teacher, rows = logits(4)
    value, found = differentiated(softened, [teacher, teacher, rows])
    assert value > 0.1 and np.abs(found[0]).max() < 1e-16


def test_rows_that_do_not_count_change_nothing():
    student, teacher, rows = logits(5)
    rows[1] = False
    ours = functools.partial(mixed, labels=np.where(rows, LABELS, -100))
    value, found = differentiated(ours, [student, teacher, rows])
    rest = differentiated(functools.partial(mixed, labels=LABELS[rows]), [student[rows], teacher[rows], rows[rows]])
    assert_same((value, [found[0][rows], None, None]), rest)
    assert (found[0][1] == 0).all()
    check_padding_never_matters(ours, [student, teacher, rows], {0: ~rows, 1: ~rows}, POISONS["NaN"])


@pytest.mark.parametrize("parts", [[[0], [1, 2, 3]], [[3, 1], [0, 2]]], ids=str)
def test_shards_of_softened_labels_add_up(parts):
    def loss(student, teacher, rows, labels, divisor=None):
        return mixed(student, teacher, rows, divisor, labels)

    check_shards(loss, lambda rows: len(rows), [*logits(6), LABELS], parts, (0, 1, 2, 3))


def test_the_softened_term_is_the_teachers_part_at_its_own_temperature():
    student, teacher, rows = logits(7)
    mask = np.ones((4, 6), bool)
    batch = Batch(ids=np.zeros((4, 6), int), mask=mask, labels=LABELS)
    term = fitnets.softened
    assert term.temperature == 3 and "unverified" in term.notes and term.divisor(batch) == 4
    assert term.student_needs == term.teacher_needs == Needs.of(logits=True)
    sides = [Features("toy", 1, mask, logits=Tensor(x, requires_grad=True)) for x in (student, teacher)]
    assert term(*sides, batch, 4).item() == softened(student, teacher, rows).item()
    other = term.but(temperature=2.0)(*sides, batch, 8)
    assert_within(other.array, reference.softened(student, teacher, temperature=2.0) / 2, 1e-14)
    assert [g is None for g in gradients(other, [side.logits for side in sides])] == [False, True]


@each_softened
def test_softened_labels_on_a_device_never_make_the_host_wait(loss, strict_cupy):
    def with_labels(student, teacher, rows, labels):
        return loss(student, teacher, rows, divisor=4, **({"labels": labels} if loss is mixed else {}))

    check_device(with_labels, [*logits(8), LABELS], strict_cupy)
