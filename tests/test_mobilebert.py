"""MobileBERT's terms, paper and published: printed sums, PyTorch, complex steps, golden values, padding, shards."""

import functools
import re
from typing import Callable, NamedTuple

import numpy as np
import pytest

import loss_checks
from gradcheck import assert_close64, assert_within
from loss_checks import POISONS, differentiated, features
from oracle import mobilebert as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import IGNORED, Batch, Needs
from tinydistill.losses import mobilebert
from tinydistill.losses.mobilebert import (ATTENTION, OFFICIAL, PRETRAINING, attention_transfer, feature_map_transfer,
                                           mean_transfer, mean_transfer_official, normalised_transfer,
                                           pretraining_distillation, variance_transfer, variance_transfer_official)
from tinydistill_reference import mobilebert as reference


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


LABELS = np.array([3, IGNORED, 0, IGNORED, IGNORED, 6])
MASK = np.arange(5) < np.array((5, 2, 3))[:, None]                                      # (B, T) = (3, 5)
HIDDEN = [1.5 * normal(3, 5, 4), normal(3, 5, 4, seed=1), MASK]                         # student, teacher
SCORED = [2 * normal(3, 2, 5, 5), 3 * normal(3, 2, 5, 5, seed=1), MASK]
LOGITS = [2 * normal(6, 7), 3 * normal(6, 7, seed=1), LABELS]


class Case(NamedTuple):
    loss: Callable
    printed: Callable
    in_torch: Callable
    arrays: list
    count: Callable                                 # the divisor, of the mask or the labels of the batch


def both(name, loss, printed, paper, official, arrays, count, convention=OFFICIAL, **settings):
    """The case of the paper, and that of published code, which the printed sums know by these settings."""
    under = functools.wraps(loss)(functools.partial(loss, convention=convention))
    return {name: Case(loss, printed, paper, arrays, len if arrays[2].dtype == bool else count),
            name + ", official": Case(under, functools.partial(printed, **settings), official, arrays, count)}


def labelled(labels):
    return (labels != IGNORED).sum()


CASES = {}
for name, loss, printed, in_torch in (
        ("feature map", feature_map_transfer, reference.feature_map, oracle.mse_loss),
        ("normalised", normalised_transfer, reference.normalised, oracle.normalised),
        ("means", mean_transfer, reference.mean_transfer, oracle.means),
        ("variances", variance_transfer, reference.variance_transfer, oracle.variances)):
    CASES |= both(name, loss, printed, oracle.per_sequence(in_torch), oracle.of_everything(in_torch), HIDDEN, np.size,
                  rows="all", divisor="element")
CASES |= both("attention", attention_transfer, reference.attention, oracle.attention, oracle.attention_official, SCORED,
              np.size, ATTENTION["official"], rows="all", divisor="row", constant="cross-entropy")
CASES |= both("pretraining", pretraining_distillation, reference.pretraining, oracle.pretraining,
              functools.partial(oracle.pretraining, epsilon=1e-5), LOGITS, labelled, PRETRAINING["official"],
              epsilon=1e-5)
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# ---------------------------------------------------------------- three witnesses

@each_case
def test_value_is_the_printed_sum(case):
    assert_close64(case.loss(*case.arrays).array, case.printed(*case.arrays))


@each_case
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(case):
    against_torch(case.loss, case.in_torch, case.arrays, without_gradient=[1])


@each_case
def test_derivative_of_the_printed_sums_by_complex_step(case):
    loss_checks.check_complex_step(case.loss, case.printed, case.arrays, [0])


def g(shape, a, b, s):
    """s sin(a k + b), k the row-major index."""
    return s * np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def test_golden_values():
    student, teachers = g((2, 3, 8), .31, .4, 1.5), [g((2, 3, 8), .17 + .1 * i, .9 + i, 1.2) for i in range(4)]
    scores = g((2, 2, 3, 3), .9, .3, 2), g((2, 2, 3, 3), .4, 1.1, 2)
    mask = np.ones((2, 3), bool)
    for value, golden in (
            (feature_map_transfer(student, teachers[2], mask), 2.71754262104),
            (normalised_transfer(student, teachers[2], mask), 3.23095375409),
            (mean_transfer(student, teachers[2], mask), 1.28372033428),
            (variance_transfer(student, teachers[2], mask), 0.281431294795),
            (mean_transfer_official(student, teachers, mask), 1.08410999825),
            (variance_transfer_official(student, teachers, mask), 0.287247605717),
            (attention_transfer(*scores, mask), 0.542352294191),
            (attention_transfer(*scores, mask, convention=ATTENTION["official"]), 1.55577782092)):
        assert_within(value.array, golden, 1e-11)   # as many digits as the golden values have


@pytest.mark.parametrize("loss, in_torch", [(mean_transfer_official, oracle.means),
                                            (variance_transfer_official, oracle.variances)])
def test_the_broadcast_bug_averages_over_all_layers_of_the_teacher(loss, in_torch):
    def ours(student, *teachers_and_mask, divisor=None):
        return loss(student, teachers_and_mask[:-1], teachers_and_mask[-1], divisor)

    arrays = [HIDDEN[0], *(normal(3, 5, 4, seed=i) for i in range(1, 5)), MASK]
    against_torch(ours, oracle.all_layers(in_torch), arrays, without_gradient=[1, 2, 3, 4])
    loss_checks.check_shards(ours, np.size, arrays, [[0, 2], [1]], range(6))
    one = mean_transfer if loss is mean_transfer_official else variance_transfer
    alone = loss(HIDDEN[0], [HIDDEN[1]], MASK)
    assert_close64(alone.array, one(*HIDDEN, convention=OFFICIAL).array)        # a list of one layer is matched


# ---------------------------------------------------------------- padding, shards, devices

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("name", ["feature map", "normalised", "means", "variances", "attention"])
def test_padding_never_matters(name, poison):
    loss, arrays = CASES[name].loss, CASES[name].arrays
    loss_checks.check_padding_never_matters(loss, arrays, loss_checks.padding_of(arrays, MASK), poison)


@pytest.mark.parametrize("name", ["feature map", "normalised", "means", "variances", "attention"])
def test_padded_rows_do_matter_to_published_code(name):
    loss, arrays = CASES[name + ", official"].loss, CASES[name].arrays
    rows = loss_checks.rows_of_padding(arrays[0], MASK)
    value, found = differentiated(loss, arrays)
    other = normal(*arrays[0].shape, seed=9)
    moved, _ = differentiated(loss, [np.where(loss_checks.expand(rows, other), other, arrays[0]), *arrays[1:]])
    assert abs(moved - value) > 1e-3 * value and (found[0][rows] != 0).any()


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_rows_without_a_label_never_matter_and_neither_do_all_without_one(poison):
    unlabelled = LABELS == IGNORED
    loss_checks.check_padding_never_matters(pretraining_distillation, LOGITS, {0: unlabelled, 1: unlabelled}, poison)
    for convention in PRETRAINING.values():
        none = functools.partial(pretraining_distillation, convention=convention)
        value, found = differentiated(none, [*LOGITS[:2], np.full(6, IGNORED)])
        assert value == 0 and (found[0] == 0).all()


def epsilon(case):
    return 1e-5 if case is CASES["pretraining, official"] else 0


@each_case
@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[0, 1], [2]], [[1], [0, 2]]], ids=str)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(case, parts):
    arrays, loss, count = case.arrays, case.loss, case.count
    if arrays[2] is LABELS:
        arrays, parts = [*arrays, LABELS != IGNORED], [[2 * i + j for i in part for j in (0, 1)] for part in parts]
        loss, count = lambda *x, divisor: case.loss(*x[:3], divisor=divisor), lambda mask: mask.sum() + epsilon(case)
    loss_checks.check_shards(loss, count, arrays, parts, range(len(arrays)))


@each_case
def test_a_device_computes_the_same_and_the_host_never_waits(case, strict_cupy):
    divisor = int(case.count(case.arrays[2])) + epsilon(case)
    loss_checks.check_device(functools.partial(case.loss, divisor=divisor), case.arrays, strict_cupy)


# ---------------------------------------------------------------- what the formulas promise

@pytest.mark.parametrize("name", ["feature map", "normalised", "means", "variances", "attention"])
def test_equality_is_worth_nothing(name):
    _, teacher, mask = CASES[name].arrays
    value, found = differentiated(CASES[name].loss, [teacher, teacher, mask])
    assert value == 0 and (found[0] == 0).all()


def test_three_terms_see_what_each_is_named_after():
    """x -> a x + c moves mean and variance, and nothing that a layer norm leaves."""
    student, teacher, mask = HIDDEN
    mean = student.mean(axis=2, keepdims=True)
    shifted, stretched = student + 5.0, mean + 3 * (student - mean)
    for loss, by_shift, by_stretch in ((normalised_transfer, False, False), (mean_transfer, True, False),
                                       (variance_transfer, False, True)):
        value = loss(*HIDDEN).item()
        for moved, matters in ((shifted, by_shift), (stretched, by_stretch)):
            assert (abs(loss(moved, teacher, mask).item() - value) > 1e-2) == matters
    found = differentiated(normalised_transfer, HIDDEN)[1][0]
    largest = np.abs(found).max()
    assert np.abs(found.sum(axis=2)).max() < 1e-14 * 50 * largest and largest > 1e-3
    assert np.abs((found * (student - mean)).sum(axis=2)).max() < 1e-10 * largest


def test_scaling_is_squared_for_maps_and_means_and_for_variances_too():
    student, teacher, mask = HIDDEN
    for loss in (feature_map_transfer, mean_transfer, variance_transfer):
        assert_close64(loss(3 * student, 3 * teacher, mask).array, 9 * loss(*HIDDEN).array)


def test_cross_entropy_is_kl_and_the_teachers_entropy_with_the_same_gradient():
    full = np.ones_like(MASK)
    kl, ce = (differentiated(functools.partial(attention_transfer, convention=c), [*SCORED[:2], full])
              for c in ATTENTION.values())
    p = np.exp(SCORED[1]) / np.exp(SCORED[1]).sum(axis=-1, keepdims=True)
    assert_close64(ce[0], kl[0] - (p * np.log(p)).sum(axis=-1).mean())
    assert_within(ce[1][0], kl[1][0], 1e-14)


def test_half_of_the_targets_are_the_teachers():
    ours = {share: pretraining_distillation(*LOGITS, ground_truth=share).item() for share in (0.0, 0.5, 1.0)}
    rows = LABELS != IGNORED
    log_q = LOGITS[0][rows] - np.log(np.exp(LOGITS[0][rows]).sum(axis=1, keepdims=True))
    assert_close64(ours[1.0], -log_q[range(3), LABELS[rows]].mean())
    assert_close64(ours[0.5], (ours[0.0] + ours[1.0]) / 2)
    assert_close64(pretraining_distillation(*LOGITS).array, ours[0.5])
    one = [x[2:5] for x in LOGITS]
    assert_close64(pretraining_distillation(*one).array, reference.pretraining(*one))


# ---------------------------------------------------------------- terms

@pytest.mark.parametrize("term, field, loss", [
    (mobilebert.feature_map, "hidden", feature_map_transfer),
    (mobilebert.feature_map_normalised, "hidden", normalised_transfer),
    (mobilebert.means, "hidden", mean_transfer), (mobilebert.variances, "hidden", variance_transfer),
    (mobilebert.attention, "scores", attention_transfer)], ids=lambda x: getattr(x, "name", ""))
def test_terms_sum_over_pairs_of_layers(term, field, loss):
    student, teacher, mask = HIDDEN if field == "hidden" else SCORED
    batch = Batch(ids=np.zeros((3, 5), int), mask=MASK)
    ours = features(mask, **{field: [Tensor(student, True), Tensor(2 * student, True)]})
    theirs = features(mask, **{field: [Tensor(teacher, True), Tensor(3 * teacher, True)]})
    assert term.student_needs == term.teacher_needs == Needs.of(**{field: [-1]})
    assert set(term.conventions) == {"paper", "official"} - ({"official"} if loss is feature_map_transfer else set())
    for name in term.conventions:
        divisor = {"paper": 3, "official": 15}[name]
        chosen = term.under(name).on([(0, 0), (1, 1)])
        assert chosen.divisor(batch) == divisor
        value = chosen(ours, theirs, batch, divisor)
        want = sum(loss(a * student, b * teacher, mask, convention=chosen.rule) for a, b in ((1, 1), (2, 3)))
        assert_close64(value.array, want.array)
        found = gradients(value, [getattr(ours, field)[0], getattr(ours, field)[1], getattr(theirs, field)[0]])
        assert found[0].any() and found[1].any() and found[2] is None


@pytest.mark.parametrize("positions", [None, np.array([0, 3, 4, 11])], ids=["everywhere", "at positions"])
def test_the_pretraining_term_reads_labels_where_the_head_does(positions):
    labels = np.full((3, 5), IGNORED)
    labels[[0, 0, 2], [0, 4, 1]] = 3, 0, 6
    batch = Batch(ids=np.zeros((3, 5), int), mask=MASK, labels=labels, positions=positions)
    read = labels.ravel() if positions is None else labels.ravel()[positions]
    student, teacher = normal(len(read), 7), normal(len(read), 7, seed=1)
    ours, theirs = (features(MASK, hidden=[]).has(logits=x) for x in (student, teacher))
    for name, divisor in (("paper", 3), ("official", 3 + 1e-5)):
        term = mobilebert.pretraining.under(name)
        assert term.divisor(batch) == divisor
        want = pretraining_distillation(student, teacher, read, convention=PRETRAINING[name])
        assert_close64(term(ours, theirs, batch, divisor).array, want.array)


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("loss", [feature_map_transfer, normalised_transfer, mean_transfer, variance_transfer])
@pytest.mark.parametrize("arrays, text", [
    ([HIDDEN[0][:, :, :3], HIDDEN[1], MASK], "student (3, 5, 3), teacher (3, 5, 4), mask (3, 5)"),
    ([HIDDEN[0][:, :, :1], HIDDEN[1], MASK], "student (3, 5, 1), teacher (3, 5, 4), mask (3, 5)"),
    ([*HIDDEN[:2], MASK[:, :4]], "student (3, 5, 4), teacher (3, 5, 4), mask (3, 4)"),
    ([*HIDDEN[:2], MASK * 1.0], "need a mask of bool, True at real tokens; got float64"),
    ([*HIDDEN[:2], MASK & (np.arange(3) < 2)[:, None]], "sequence 2 of the mask has none")])
def test_what_does_not_fit_is_an_error_that_shows_it(loss, arrays, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        loss(*arrays)


def test_scores_that_do_not_fit_are_an_error_that_shows_them():
    with pytest.raises(ValueError, match=re.escape("student (3, 2, 5, 5), teacher (3, 4, 5, 5), mask (3, 5)")):
        attention_transfer(SCORED[0], normal(3, 4, 5, 5), MASK)
