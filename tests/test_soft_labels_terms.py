"""The terms of soft labels: which rows of a batch they read, their mix with hard labels, and the spans of answers."""

import re

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, UPSTREAM, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         differentiated)
from oracle import soft_labels as oracle
from oracle.torch_check import against_torch
from test_soft_labels import GOLDEN, TEMPERATURE, VARIANTS, example
from tinydistill import Tensor, gradients
from tinydistill.features import IGNORED, Batch, Features
from tinydistill.losses import hard_labels, soft_labels as ours
from tinydistill.losses.soft_labels import span, with_hard_labels
from tinydistill_reference import soft_labels as reference


def features(logits):
    return Features("toy", 1, None, logits=logits)


def classified(*labels):
    return Batch(ids=np.zeros((len(labels), 2), int), mask=np.ones((len(labels), 2), bool), labels=np.array(labels))


# ---------------------------------------------------------------- which rows a batch has

B, T = 4, 5
MASK = np.arange(T) < np.array([5, 2, 4, 1])[:, None]
LABELS = np.where(MASK & (np.arange(B * T).reshape(B, T) % 3 == 0), 1, IGNORED)
BATCHES = {"every token": None, "at positions": np.array([0, 1, 3, 4, 6, 7, 11, 15, 16])}
TOKEN_TERMS = [(term, name) for term in (ours.tokens, ours.masked) for name in term.conventions]


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("positions", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("term, name", TOKEN_TERMS, ids=lambda x: getattr(x, "name", x))
def test_tokens_of_shards_add_up_to_the_printed_sum_of_the_whole(term, name, positions, parts):
    term = term.under(name).but(temperature=TEMPERATURE)
    batch = Batch(ids=np.zeros((B, T), int), mask=MASK, labels=LABELS, positions=positions)
    read = np.arange(B * T) if positions is None else positions
    student, teacher, *_ = example(13, N=len(read))
    counted = LABELS.ravel()[read] != IGNORED if term.rule.rows == "labelled" else MASK.ravel()[read]
    divisor, leaf, total, first = term.divisor(batch), Tensor(student, requires_grad=True), 0.0, 0
    assert divisor == counted.sum() < len(read)
    for shard in batch.split(parts):
        rows = slice(first, first + (shard.mask.size if positions is None else len(shard.positions)))
        total, first = term(features(leaf[rows]), features(teacher[rows]), shard, divisor) + total, rows.stop
    truth = reference.soft_labels(student, teacher, counted, temperature=TEMPERATURE, **VARIANTS[name])
    assert_within(total.array, truth, 1e-13)
    def whole(student, teacher):
        return term(features(student), features(teacher), batch, divisor)
    want = differentiated(whole, [student, teacher])
    assert want[1][1] is None
    assert_same((total.array, [gradients(total * UPSTREAM, [leaf])[0], None]), want)


@pytest.mark.parametrize("term, name", [(term, name) for term in (ours.classes, ours.mse) for name in term.conventions],
                         ids=lambda x: getattr(x, "name", x))
def test_classes_of_shards_add_up_to_the_whole(term, name):
    term, batch = term.under(name).but(temperature=TEMPERATURE), classified(1, IGNORED, 0, 2, 3, 3, IGNORED)
    student, teacher, *_ = example(14)
    if term.name == "soft_labels.classes":
        want = reference.soft_labels(student, teacher, temperature=TEMPERATURE, **VARIANTS[name])
    else:
        want = reference.logits_mse(student, teacher, temperature=TEMPERATURE,
                                    divisor="row" if name == "paper" else "element")
    assert term.divisor(batch) == 7
    total = sum(term(features(student[shard.rows]), features(teacher[shard.rows]), shard, 7).item()
                for shard in batch.split(3))
    assert_within(total, want, 1e-13)
    without_labels = Batch(ids=batch.ids, mask=batch.mask)
    assert_within(term(features(student), features(teacher), without_labels, 7).array, want, 1e-13)


def test_labelled_sequences_are_those_with_a_label():
    batch = classified(1, IGNORED, 0, 2, 3, 3, IGNORED)
    term = ours.classes.but(conventions={"labelled": ours.TOKENS["labelled"]}, convention="labelled")
    student, teacher, *_ = example(15)
    value = term(features(student), features(teacher), batch, term.divisor(batch)).item()
    assert term.divisor(batch) == 5
    assert_within(value, reference.soft_labels(student, teacher, batch.labels != IGNORED), 1e-13)
    with pytest.raises(ValueError, match="need labels: only rows that have one count"):
        term.divisor(Batch(ids=MASK, mask=MASK, labels=LABELS))         # labels of tokens


def test_masked_tokens_need_labels_of_tokens():
    for batch in (Batch(ids=MASK, mask=MASK), Batch(ids=MASK, mask=MASK, labels=LABELS[:, 0])):
        with pytest.raises(ValueError, match="need labels: only rows that have one count"):
            ours.masked.divisor(batch)
        assert ours.tokens.divisor(batch) == MASK.sum()


# ---------------------------------------------------------------- spans

def spans(seed=0):
    rng = np.random.default_rng(seed)
    return [2 * rng.standard_normal((B, T, 2)), 2 * rng.standard_normal((B, T, 2)), MASK]


@pytest.mark.parametrize("name", ours.SPAN)
def test_spans_by_three_witnesses_and_on_a_device(name, strict_cupy):
    padding = name == "official"
    keys = "all" if padding else "real"

    def loss(student, teacher, mask):
        return span(student, teacher, mask, temperature=TEMPERATURE, convention=ours.SPAN[name])

    def printed(student, teacher, mask):
        return reference.span(student, teacher, mask, temperature=TEMPERATURE, keys=keys)

    arrays = spans(16)
    assert_close64(loss(*arrays).array, printed(*arrays))
    check_complex_step(loss, printed, arrays, [0])
    against_torch(loss, lambda *arrays: oracle.span(*arrays, TEMPERATURE, padding), arrays, without_gradient=[1])
    check_device(loss, arrays, strict_cupy)


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_padding_never_matters_to_a_span_but_does_in_published_code(poison):
    arrays = spans(17)
    check_padding_never_matters(span, arrays, {0: ~MASK, 1: ~MASK}, poison)
    student, teacher, mask = spans(17)
    student[~mask] += 2.0
    official = [span(s, teacher, mask, convention=ours.SPAN["official"]).item() for s in (arrays[0], student)]
    assert abs(official[0] - official[1]) > 0.01
    assert span(*arrays).item() == span(*arrays, temperature=2.0).item()


@pytest.mark.parametrize("name", ours.SPAN)
def test_spans_of_shards_add_up_to_the_whole(name):
    student, teacher, mask = spans(18)
    batch, term = Batch(ids=np.zeros((B, T), int), mask=mask), ours.answer_span.under(name)
    flat = [x.reshape(B * T, 2) for x in (student, teacher)]
    assert term.divisor(batch) == B and term.temperature == 2.0
    total = sum(term(*(features(Tensor(x[shard.rows[0] * T:(shard.rows[-1] + 1) * T])) for x in flat), shard, B).item()
                for shard in batch.split(3))
    keys = "all" if name == "official" else "real"
    assert_within(total, reference.span(student, teacher, mask, keys=keys), 1e-13)


def test_what_a_span_needs_is_said():
    student, teacher, mask = spans()
    one_wide = student[:, :, :1], teacher[:, :, :1], mask
    for wrong, text in [(one_wide, "student (4, 5, 1), teacher (4, 5, 1), mask (4, 5)"),
                        ((student, teacher[:, :4], mask), "student (4, 5, 2), teacher (4, 4, 2), mask (4, 5)"),
                        ((student, teacher, mask[:, :4]), "mask (4, 4)")]:
        with pytest.raises(ValueError, match=re.escape("need logits (B, T, 2)") + ".*" + re.escape(text)):
            span(*wrong)
    with pytest.raises(ValueError, match="need a mask of bool, True at real tokens; got int64"):
        span(student, teacher, mask.astype(int))
    with pytest.raises(ValueError, match="at least one real token in every sequence; sequence 1"):
        span(student, teacher, mask & (np.arange(B) != 1)[:, None])
    batch = Batch(ids=mask, mask=mask, positions=np.array([0, 1]))
    with pytest.raises(ValueError, match="need logits at every position, to choose one; the batch reads 2"):
        ours.answer_span(features(student[0, :2]), features(teacher[0, :2]), batch, B)


# ---------------------------------------------------------------- with hard labels

@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_mix_with_labels(alpha):
    labels, (student, teacher, *_) = [0, 3, 1, 4], GOLDEN
    batch, soft = classified(*labels), ours.classes.but(temperature=2.0)

    def mixed(student, teacher):
        return with_hard_labels(features(student), features(teacher), batch, alpha=alpha, soft=soft)

    assert abs(mixed(student, teacher).item() - (alpha * 1.37542156975744 + (1 - alpha) * 1.80038827007538)) < 1e-13
    assert_close64(mixed(student, teacher).array, reference.with_hard_labels(student, teacher, labels, alpha, 2.0))

    def twin(student, teacher):
        return oracle.with_hard_labels(student, teacher, student.new_tensor(labels).long(), alpha, 2.0)

    def printed(student, teacher):
        return reference.with_hard_labels(student, teacher, labels, alpha, 2.0)

    against_torch(mixed, twin, [student, teacher], without_gradient=[1])
    check_complex_step(mixed, printed, [student, teacher], [0])


def test_each_part_of_the_mix_has_its_own_divisor():
    batch, (student, teacher, *_) = classified(0, IGNORED, 1, 4), GOLDEN
    pair = features(student), features(teacher)
    hard, soft = hard_labels.classes(*pair, batch, 1), ours.classes(*pair, batch, 1)
    own = with_hard_labels(*pair, batch, alpha=0.3)
    assert_within(own.array, 0.3 * hard.array / 3 + 0.7 * soft.array / 4, 1e-14)
    given = with_hard_labels(*pair, batch, alpha=0.3, divisors=(6, 8))
    assert_within(given.array, own.array / 2, 1e-14)
