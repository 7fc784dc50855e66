"""DistilBERT's terms: the cosine of hidden states, soft labels and squares of all real tokens, and the released mix."""

import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, UPSTREAM, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         check_shards, differentiated)
from oracle import distilbert as oracle, soft_labels as soft_oracle
from oracle.torch_check import against_torch
from test_soft_labels import det
from tinydistill import Tensor, gradients
from tinydistill.features import IGNORED, Batch, Features
from tinydistill.losses import distilbert, hard_labels
from tinydistill.losses.convention import Convention
from tinydistill.losses.distilbert import cosine
from tinydistill_reference import distilbert as reference, soft_labels as soft_reference

MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]], bool)
LABELS = np.where(MASK & (np.arange(20).reshape(4, 5) % 3 == 0), 2, IGNORED)


def hidden(seed=0, D=6):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((4, 5, D)), 3 * rng.standard_normal((4, 5, D)), MASK]


# ---------------------------------------------------------------- cosine

def test_cosine_by_three_witnesses_and_on_a_device(strict_cupy):
    arrays = hidden(10)
    assert_close64(cosine(*arrays).array, reference.cosine(*arrays))
    check_complex_step(cosine, reference.cosine, arrays, [0])
    against_torch(cosine, oracle.cosine, arrays, without_gradient=[1])
    check_device(lambda *arrays: cosine(*arrays, divisor=11), arrays, strict_cupy)


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_padding_never_matters_to_a_cosine(poison):
    check_padding_never_matters(cosine, hidden(1), {0: ~MASK, 1: ~MASK}, poison)


@pytest.mark.parametrize("parts", [[[0, 1, 2, 3]], [[0], [1, 2, 3]], [[0, 2], [1], [3]]], ids=str)
def test_cosines_of_shards_add_up_to_the_whole(parts):
    check_shards(cosine, distilbert.PAPER.divides_by, hidden(2), parts, (0, 1, 2))


def test_a_cosine_knows_directions_only():
    student, teacher, mask = hidden(3)
    value, (gradient, *_) = differentiated(cosine, [student, teacher, mask])
    lengths = np.exp(np.random.default_rng(4).standard_normal((2, 4, 5, 1)))
    scaled, (of_scaled, *_) = differentiated(cosine, [student * lengths[0], teacher * lengths[1], mask])
    assert_within(scaled, value, 1e-14)
    assert_within(of_scaled * lengths[0], gradient, 1e-14)
    assert np.abs((gradient * student).sum(axis=-1)).max() < 1e-15      # never along the student itself
    assert abs(cosine(2 * teacher, teacher, mask).item()) < 1e-15
    assert_within(cosine(-teacher, teacher, mask).array, 2.0, 1e-14)


def test_a_zero_vector_has_cosine_zero_and_a_finite_gradient():
    student, teacher, mask = hidden(5)
    student[0, 0] = teacher[1, 1] = 0
    value, (gradient, *_) = differentiated(cosine, [student, teacher, mask])
    rest = mask.copy()
    rest[0, 0] = rest[1, 1] = False
    assert_within(value, (2 + rest.sum() * cosine(student, teacher, rest).item()) / mask.sum(), 1e-14)
    assert np.isfinite(gradient).all() and (gradient[1, 1] == 0).all()


def test_a_cosine_counts_rows_as_its_convention_says():
    student, teacher, mask = hidden(6)
    every = cosine(student, teacher, mask, convention=Convention(rows="all", divisor="row"))
    assert_close64(every.array, reference.cosine(student, teacher, np.ones_like(mask)))
    by_sequence = cosine(student, teacher, mask, convention=Convention())
    each = [reference.cosine(student[b:b + 1], teacher[b:b + 1], mask[b:b + 1]) for b in range(4)]
    assert_within(by_sequence.array, np.mean(each), 1e-14)


@pytest.mark.parametrize("place, array, text", [
    (1, np.ones((4, 5, 7)), "need the same (B, T, D), widths too: student (4, 5, 6), teacher (4, 5, 7), mask (4, 5)"),
    (2, np.ones((4, 4), bool), "student (4, 5, 6), teacher (4, 5, 6), mask (4, 4)"),
    (2, np.ones((4, 5)), "need a mask of bool, True at real tokens; got float64")])
def test_shapes_that_do_not_fit_are_an_error_that_shows_them(place, array, text):
    arrays = hidden()
    arrays[place] = array
    with pytest.raises(ValueError, match=re.escape(text)):
        cosine(*arrays)


# ---------------------------------------------------------------- terms

def features(logits=None, states=None):
    made = Features("toy", 2, None, logits=logits)
    if states is not None:
        made.hidden[1] = states
    return made


def logits(seed=0, V=6):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal((20, V)), 2 * rng.standard_normal((20, V))


def counted(name):
    return (LABELS != IGNORED).ravel() if name == "labelled" else MASK.ravel()


PRINTED = {"distilbert.soft_labels": lambda s, t, rows: soft_reference.soft_labels(s, t, rows, temperature=2.0),
           "distilbert.logits_mse": lambda s, t, rows: soft_reference.logits_mse(s, t, rows)}
IN_TORCH = {"distilbert.soft_labels": lambda s, t, rows: soft_oracle.paper(s, t, rows, None, 2.0),
            "distilbert.logits_mse": oracle.logits_mse}
BATCH = Batch(ids=np.zeros((4, 5), int), mask=MASK, labels=LABELS)


@pytest.mark.parametrize("name", distilbert.LOGITS)
@pytest.mark.parametrize("term", [distilbert.soft, distilbert.mse], ids=lambda term: term.name)
def test_terms_of_logits_by_three_witnesses_and_in_shards(term, name):
    term, (student, teacher), rows = term.under(name), logits(7), counted(name)
    divisor = term.divisor(BATCH)
    assert divisor == rows.sum()

    def loss(student, teacher, _):
        return term(features(student), features(teacher), BATCH, divisor)

    def in_shards(student, teacher, _):
        parts = [(shard, slice(shard.rows[0] * 5, (shard.rows[-1] + 1) * 5)) for shard in BATCH.split(3)]
        values = [term(features(student[part]), features(teacher[part]), shard, divisor) for shard, part in parts]
        return values[0] + values[1] + values[2]

    arrays = [student, teacher, rows]
    assert_close64(loss(*arrays).array, PRINTED[term.name](*arrays))
    check_complex_step(loss, PRINTED[term.name], arrays, [0])
    against_torch(loss, IN_TORCH[term.name], arrays, without_gradient=[1])
    assert_same(differentiated(in_shards, arrays), differentiated(loss, arrays))
    check_padding_never_matters(loss, arrays, {0: ~rows, 1: ~rows}, POISONS["NaN"])


def test_the_cosine_reads_the_last_hidden_states():
    student, teacher, mask = hidden(8)
    value = distilbert.cos(features(states=student), features(states=teacher), BATCH, distilbert.cos.divisor(BATCH))
    assert distilbert.cos.divisor(BATCH) == mask.sum() == 11
    assert_close64(value.array, reference.cosine(student, teacher, mask))


# ---------------------------------------------------------------- golden values

GOLDEN = Batch(ids=np.zeros((2, 4), int), mask=np.array([[1, 1, 1, 1], [1, 1, 1, 0]], bool),
               labels=np.array([[-100, 2, -100, 5], [1, -100, -100, -100]]))
GOLDEN_LOGITS = det((8, 6), 0.37, 0.1, 1.5), det((8, 6), 0.53, 1.3, 2.5)
GOLDEN_HIDDEN = det((2, 4, 5), 0.9, 0.2), det((2, 4, 5), 1.3, 0.5)


def terms(weighted, student_logits, student_hidden):
    """sum of weight * term on the golden batch."""
    pair = features(student_logits, student_hidden), features(GOLDEN_LOGITS[1], GOLDEN_HIDDEN[1])
    return sum(weight * term(*pair, GOLDEN, term.divisor(GOLDEN)) for weight, term in weighted)


RELEASED = (5.0, distilbert.soft), (2.0, hard_labels.masked_lm), (1.0, distilbert.cos)


def test_golden_values_of_every_term_and_of_the_released_mix():
    parts = {distilbert.soft: 1.27102548168615, distilbert.soft.under("labelled"): 1.46527133006587,
             distilbert.soft.under("official"): 1.27102548168615, hard_labels.masked_lm: 1.73984964816283,
             distilbert.cos: 0.953551309833141, distilbert.cos.under("official"): 0.953551309833141,
             distilbert.mse: 25.4320748892245}
    for term, golden in parts.items():
        assert_within(terms([(1.0, term)], GOLDEN_LOGITS[0], GOLDEN_HIDDEN[0]).array, golden, 1e-13 * golden)
    total = terms(RELEASED, GOLDEN_LOGITS[0], GOLDEN_HIDDEN[0]).item()
    shaped = [x.reshape(2, 4, 6) for x in GOLDEN_LOGITS]
    printed = reference.distilbert(*shaped, *GOLDEN_HIDDEN, GOLDEN.mask, GOLDEN.labels)
    np.testing.assert_allclose([total, printed], 10.7883780145896, rtol=1e-13)


def test_the_released_mix_is_differentiated_as_printed():
    leaves = [Tensor(x, requires_grad=True) for x in (GOLDEN_LOGITS[0], GOLDEN_HIDDEN[0])]
    found = gradients(terms(RELEASED, *leaves) * UPSTREAM, leaves)
    rng = np.random.default_rng(9)
    steps = [rng.standard_normal(x.shape) for x in (GOLDEN_LOGITS[0], GOLDEN_HIDDEN[0])]
    moved = [x + 1e-40j * step for x, step in zip((GOLDEN_LOGITS[0], GOLDEN_HIDDEN[0]), steps)]
    exact = UPSTREAM * reference.distilbert(
        moved[0].reshape(2, 4, 6), GOLDEN_LOGITS[1].reshape(2, 4, 6), moved[1], GOLDEN_HIDDEN[1], GOLDEN.mask,
        GOLDEN.labels).imag / 1e-40
    assert abs(sum((g * step).sum() for g, step in zip(found, steps)) - exact) <= 1e-13 * abs(exact)
