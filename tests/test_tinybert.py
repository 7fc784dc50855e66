"""TinyBERT's terms, paper and published: printed sums, PyTorch, complex steps, golden values, padding, shards."""

import functools
import re
from types import SimpleNamespace
from typing import Callable, NamedTuple

import numpy as np
import pytest

import loss_checks
from gradcheck import assert_close64, assert_within
from loss_checks import POISONS, differentiated, features
from oracle import tinybert as oracle
from oracle.torch_check import against_torch
from tinydistill import Tensor, gradients
from tinydistill.features import Batch, Needs
from tinydistill.losses import tinybert
from tinydistill.losses.convention import PAPER
from tinydistill.losses.tinybert import (CONVENTIONS, PREDICTION, SCORES, attention_transfer,
                                         attention_transfer_official, hidden_transfer, prediction_transfer)
from tinydistill_reference import tinybert as reference

OFFICIAL, TOKENS, PAIRS = CONVENTIONS["official"], PAPER.but(divisor="element"), SCORES["pairs"]


def normal(*shape, seed=0):
    return np.random.default_rng([*np.atleast_1d(seed), *shape]).standard_normal(shape)


MASK = np.arange(5) < np.array((5, 1, 3))[:, None]                                        # (B, T) = (3, 5)
HIDDEN = [normal(3, 5, 4), normal(6, 4), normal(6), normal(3, 5, 6), MASK]              # student, weight, bias, teacher
EQUAL = [normal(3, 5, 4), normal(3, 5, 4, seed=1), MASK]
SCORED = [2 * normal(3, 2, 5, 5), 3 * normal(3, 2, 5, 5, seed=1), MASK]                 # student, teacher
SHARP = [np.where(normal(3, 2, 5, 5, seed=2) > 1, x - 300, x) for x in SCORED[:2]] + [MASK]
LOGITS = [2 * normal(3, 7), 3 * normal(3, 7, seed=1), MASK]


def hidden(student, weight, bias, teacher, mask, divisor=None, **settings):
    return hidden_transfer(student, teacher, mask, weight, bias, divisor=divisor, **settings)


def equal_widths(student, teacher, mask, divisor=None):
    return hidden_transfer(student, teacher, mask, divisor=divisor)


def printed_hidden(student, weight, bias, teacher, mask, **settings):
    return reference.hidden(student, teacher, mask, weight, bias, **settings)


def prediction(student, teacher, mask, divisor=None, **settings):
    return prediction_transfer(student, teacher, mask.any(axis=1), divisor=divisor, **settings)


def printed_prediction(student, teacher, mask, **settings):
    return reference.prediction(student, teacher, **settings)


class Case(NamedTuple):
    loss: Callable
    printed: Callable
    in_torch: Callable
    arrays: list
    count: Callable                                 # the divisor, of the mask of the batch
    learns: tuple


def case(loss, *others, learns=(0,), **settings):
    return Case(functools.wraps(loss)(functools.partial(loss, **settings)), *others, learns)


CASES = {
    "hidden": case(hidden, printed_hidden, oracle.hidden, HIDDEN, len, learns=(0, 1, 2)),
    "hidden, tokens": case(hidden, functools.partial(printed_hidden, divisor="element"), oracle.hidden_tokens, HIDDEN,
                           np.sum, learns=(0, 1, 2), convention=TOKENS),
    "hidden, official": case(hidden, functools.partial(printed_hidden, rows="all", divisor="element"),
                             oracle.hidden_official, HIDDEN, np.size, learns=(0, 1, 2), convention=OFFICIAL),
    "equal widths": case(equal_widths, reference.hidden, oracle.equal_widths, EQUAL, len),
    "attention": case(attention_transfer, reference.attention, oracle.attention, SCORED, len),
    "attention, pairs": case(attention_transfer, functools.partial(reference.attention, divisor="element"),
                             oracle.attention_pairs, SCORED, lambda mask: (mask.sum(axis=1) ** 2).sum(),
                             convention=PAIRS),
    "attention, official": case(attention_transfer_official, reference.attention_official, oracle.attention_official,
                                SCORED, lambda mask: mask.size * mask.shape[1]),
    "attention, official, clamped": case(attention_transfer_official, reference.attention_official,
                                         oracle.attention_official, SHARP, lambda mask: mask.size * mask.shape[1]),
    "prediction": case(prediction, printed_prediction, oracle.prediction, LOGITS, len),
    "prediction, t = 3": case(prediction, functools.partial(printed_prediction, temperature=3.0),
                              functools.partial(oracle.prediction, t=3.0), LOGITS, len, temperature=3.0),
    "prediction, official": case(prediction, functools.partial(printed_prediction, divisor="element"),
                                 oracle.prediction_official, LOGITS, len, convention=PREDICTION["official"]),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


# ---------------------------------------------------------------- three witnesses

@each_case
def test_pytorch_in_both_precisions_and_the_teacher_gets_no_gradient(case):
    teacher = [i for i, x in enumerate(case.arrays) if x.dtype == float and i not in case.learns]
    against_torch(case.loss, case.in_torch, case.arrays, without_gradient=teacher)


@each_case
def test_value_is_the_printed_sum_and_the_gradient_its_derivative_by_complex_step(case):
    assert_close64(case.loss(*case.arrays).array, case.printed(*case.arrays))
    loss_checks.check_complex_step(case.loss, case.printed, case.arrays, case.learns)


def det(shape, a, b, c):
    """c sin(a k + b), k the row-major index."""
    return c * np.sin(a * np.arange(np.prod(shape)) + b).reshape(shape)


def test_golden_values():
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    scores = det((2, 3, 4, 4), .41, .2, 2), det((2, 3, 4, 4), .59, .8, 3), mask
    hidden = (det((2, 4, 3), .33, .1, 1), det((2, 4, 5), .61, .7, 1), mask, det((3, 5), .77, .4, .5).T,
              det((5,), .2, .1, .1))
    for value, golden in (
            (attention_transfer_official(*scores), 5.14865396340206),
            (attention_transfer(*scores, convention=PAIRS), 6.74210315746703),      # one mean over 16 + 4 real pairs
            (hidden_transfer(*hidden, convention=OFFICIAL), 0.549882941125015),
            (hidden_transfer(*hidden, convention=TOKENS), 0.5373081259853)):        # one mean over 4 + 2 real tokens
        assert_within(value.array, golden, 1e-13)
    assert abs(attention_transfer(*scores).item() - 6.7) > 0.1      # the paper's: each sequence by its own length first


# ---------------------------------------------------------------- padding, shards, devices

@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
@pytest.mark.parametrize("name", ["hidden", "hidden, tokens", "equal widths", "attention", "attention, pairs"])
def test_padding_never_matters(name, poison):
    loss, arrays = CASES[name].loss, CASES[name].arrays
    loss_checks.check_padding_never_matters(loss, arrays, loss_checks.padding_of(arrays, MASK), poison)


@pytest.mark.parametrize("name", ["hidden, official", "attention, official"])
def test_padding_does_matter_to_published_code(name):
    """Its padded rows have a value and a gradient; and a padded key of the scores takes part in the divisor."""
    loss, arrays = CASES[name].loss, CASES[name].arrays
    padded = loss_checks.padding_of(arrays, MASK)[0]
    value, found = differentiated(loss, arrays)
    moved = np.where(loss_checks.expand(padded, arrays[0]), 2 * arrays[0], arrays[0])
    assert abs(loss(moved, *arrays[1:]).array - value) > 1e-2 * value and (found[0][padded] != 0).any()


def test_published_code_sets_padded_keys_to_zero_and_divides_by_them():
    student, teacher, mask = SCORED
    keys = np.broadcast_to(mask[:, None, None, :], student.shape)
    value, found = differentiated(attention_transfer_official, SCORED)
    assert (found[0][~keys] == 0).all() and (found[0][keys] != 0).all()
    assert_within(value, ((student - teacher)[keys] ** 2).sum() / keys.size, 1e-13)
    full = student, teacher, np.ones_like(mask)     # without padding there is nothing to disagree about
    assert_within(attention_transfer_official(*full).array, attention_transfer(*full).array, 1e-13)


def test_where_published_code_clamps():
    scores = np.array([[[[-100.0, -99.5], [-100.5, 9900.5]]]])
    value, found = differentiated(attention_transfer_official, [scores, 0 * scores, np.array([[True, False]])])
    assert value == 99.5 ** 2 / 4 and np.flatnonzero(found[0]).tolist() == [3]          # 9900.5 - 10000 is above -100


@each_case
@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[0, 1], [2]], [[1], [0, 2]]], ids=str)
def test_any_split_gives_the_whole_batchs_loss_and_gradient(case, parts):
    rows = [i for i, x in enumerate(case.arrays) if len(x) == 3]
    loss_checks.check_shards(case.loss, case.count, case.arrays, parts, rows)


@each_case
def test_a_device_computes_the_same_and_the_host_never_waits(case, strict_cupy):
    loss_checks.check_device(functools.partial(case.loss, divisor=int(case.count(MASK))), case.arrays, strict_cupy)


# ---------------------------------------------------------------- what the formulas promise

@pytest.mark.parametrize("name", ["equal widths", "attention", "attention, pairs", "attention, official"])
def test_equality_is_worth_nothing_and_the_error_counts_squared(name):
    loss, (student, teacher, mask) = CASES[name].loss, CASES[name].arrays
    value, found = differentiated(loss, [teacher, teacher, mask])
    assert value == 0 and (found[0] == 0).all()
    near = loss(teacher + 1e-1 * (student - teacher), teacher, mask)
    assert_within(near.array, 1e-2 * loss(student, teacher, mask).array, 1e-12)


def test_a_rotation_of_the_teachers_space_and_another_order_of_heads_change_nothing():
    student, weight, bias, teacher, mask = HIDDEN
    rotation = np.linalg.qr(normal(6, 6))[0]
    turned = hidden(student, rotation @ weight, rotation @ bias, teacher @ rotation.T, mask)
    assert_close64(turned.array, hidden(*HIDDEN).array)
    student, teacher, mask = SCORED
    value = attention_transfer(student, teacher, mask).item()
    assert_close64(attention_transfer(student[:, ::-1], teacher[:, ::-1], mask).array, value)
    assert abs(attention_transfer(student[:, ::-1], teacher, mask).item() - value) > 1e-2


def test_a_sure_teacher_is_a_label_and_a_shift_is_nothing():
    student, teacher, mask = LOGITS
    sure = 1000.0 * (np.arange(7) == np.array([[2], [0], [6]]))
    nll = -np.log(np.exp(student) / np.exp(student).sum(axis=1, keepdims=True))[[0, 1, 2], [2, 0, 6]].mean()
    assert_close64(prediction(student, sure, mask).array, nll)
    value, found = differentiated(prediction, LOGITS)
    assert np.abs(found[0].sum(axis=1)).max() < 1e-14 and np.abs(found[0]).max() > 1e-2
    assert_close64(prediction(student + 300.0, teacher - 300.0, mask).array, value)


# ---------------------------------------------------------------- terms

def two_models():
    """(student, teacher, batch): Features with every field that the terms read."""
    def made(layers, D):
        def tensor(*shape, seed=0):
            return Tensor(normal(*shape, seed=[D, seed]), True)
        hidden, scores = ([tensor(3, *shape, seed=i) for i in layers] for shape in ((5, D), (2, 5, 5)))
        return features(MASK, hidden=hidden, scores=scores).has(embeddings=tensor(3, 5, D, seed=9), logits=tensor(3, 7))
    return made(range(2), 4), made(range(4), 6), Batch(ids=np.zeros((3, 5), int), mask=MASK)


def maps(*names, bias=True):
    """A learned map under each name."""
    return {name: SimpleNamespace(weight=Tensor(normal(6, 4, seed=i), True),
                                  bias=Tensor(normal(6, seed=i), True) if bias else None)
            for i, name in enumerate(names)}


def test_hidden_states_go_through_one_map_or_through_one_each():
    student, teacher, batch = two_models()
    one = tinybert.hidden.on(((0, 1), (1, 3)))
    each = one.but(projection="fit", projection_each=True, projection_bias=True)
    for term, learned, at in ((one, maps("tinybert.W_h", bias=False), ("tinybert.W_h",) * 2),
                              (each, maps("fit.0", "fit.1"), ("fit.0", "fit.1"))):
        assert set(term.projection_names) == set(learned)
        value = term(student, teacher, batch, term.divisor(batch), learned)
        want = sum(hidden_transfer(student.hidden[s], teacher.hidden[t], MASK, learned[n].weight, learned[n].bias)
                   for (s, t), n in zip(term.pairs, at))
        assert_close64(value.array, want.array)
        parameters = [p for m in learned.values() for p in (m.weight, m.bias) if p is not None]
        assert all(np.abs(g).max() > 0 for g in gradients(value, parameters))


def test_published_code_has_one_biased_map_for_embeddings_and_hidden_states():
    student, teacher, batch = two_models()
    learned = maps("fit_dense")
    for term, ours, theirs in ((tinybert.embedding, student.embeddings, teacher.embeddings),
                               (tinybert.hidden.on([(1, 2)]), student.hidden[1], teacher.hidden[2])):
        term = term.under("official").but(projection="fit_dense", projection_bias=True)
        want = hidden_transfer(ours, theirs, MASK, *vars(learned["fit_dense"]).values(), convention=OFFICIAL)
        assert term.divisor(batch) == 15
        assert_close64(term(student, teacher, batch, 15, learned).array, want.array)


@pytest.mark.parametrize("term, want, divisor", [
    (tinybert.attention, lambda s, t: attention_transfer(s, t, MASK), 3),
    (tinybert.attention.under("pairs"), lambda s, t: attention_transfer(s, t, MASK, convention=PAIRS), 25 + 1 + 9),
    (tinybert.attention_official, lambda s, t: attention_transfer_official(s, t, MASK), 75)],
    ids=["paper", "pairs", "official"])
def test_scores_are_summed_over_pairs_of_layers(term, want, divisor):
    student, teacher, batch = two_models()
    term = term.on([(0, 1), (1, 3)])
    assert term.divisor(batch) == divisor
    value = term(student, teacher, batch, divisor)
    assert_close64(value.array, sum(want(student.scores[s], teacher.scores[t]) for s, t in term.pairs).array)
    found = gradients(value, [student.scores[0], student.scores[1], teacher.scores[1], teacher.scores[3]])
    assert found[0].any() and found[1].any() and found[2:] == [None, None]


def test_the_prediction_term_is_per_sequence():
    student, teacher, batch = two_models()
    for name, t, times in (("paper", 1, 1), ("official", 1, 1 / 7), ("paper", 2, 1)):
        term = tinybert.prediction.under(name)
        assert term.divisor(batch) == 3 and term.temperature == 1
        want = prediction_transfer(student.logits, teacher.logits, np.ones(3, bool), temperature=t)
        assert_close64(term.but(temperature=t)(student, teacher, batch, 3).array, want.array * times)


def test_what_the_terms_read():
    for term, field in ((tinybert.hidden, "hidden"), (tinybert.attention, "scores"),
                        (tinybert.attention_official, "scores")):
        term = term.on([(0, 2), (1, 5)])
        assert term.student_needs == Needs.of(**{field: [0, 1]}) and term.teacher_needs == Needs.of(**{field: [2, 5]})
    for term, field in ((tinybert.embedding, "embeddings"), (tinybert.prediction, "logits")):
        assert term.on([(0, 2)]) is term and term.student_needs == term.teacher_needs == Needs.of(**{field: True})


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("loss, arrays, text", [
    (attention_transfer, [SCORED[0], normal(3, 4, 5, 5), MASK],
     "need the same (B, A, T, T), heads included: student (3, 2, 5, 5), teacher (3, 4, 5, 5), mask (3, 5)"),
    (attention_transfer_official, [SCORED[0], SCORED[1], MASK[:, :4]], "teacher (3, 2, 5, 5), mask (3, 4)"),
    (attention_transfer, [SCORED[0], SCORED[1], MASK[:2]], "teacher (3, 2, 5, 5), mask (2, 5)"),
    (attention_transfer, [SCORED[0][:, :, :4], SCORED[1][:, :, :4], MASK], "student (3, 2, 4, 5), teacher (3, 2, 4, 5"),
    (attention_transfer, [*SCORED[:2], MASK.astype(int)], "need a mask of bool, True at real tokens; got int64"),
    (equal_widths, [normal(3, 5, 4), normal(3, 5, 6), MASK], "student (3, 5, 4), teacher (3, 5, 6), mask (3, 5)"),
    (attention_transfer, [*SCORED[:2], MASK & (np.arange(3) < 2)[:, None]], "sequence 2 of the mask has none"),
    (equal_widths, [*EQUAL[:2], MASK & (np.arange(3) < 2)[:, None]], "sequence 2 of the mask has none")])
def test_what_does_not_fit_is_an_error_that_shows_it(loss, arrays, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        loss(*arrays)
