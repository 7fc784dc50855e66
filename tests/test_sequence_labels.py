"""Soft labels of words at their first pieces."""

import numpy as np
import pytest

from gradcheck import assert_close64, assert_within
from loss_checks import (POISONS, assert_same, check_complex_step, check_device, check_padding_never_matters,
                         differentiated)
from oracle import sequence_labels as oracle
from oracle.torch_check import against_torch
from tinydistill.features import IGNORED, Batch, Features
from tinydistill.losses.sequence_labels import sequence_labels, words
from tinydistill_reference import sequence_labels as reference

# Four sequences of pieces: a word of one, two or three pieces carries its label at the first; -100 at the others, at
# [CLS], [SEP] and padding. The third has no word at all.
LABELS = np.array([[-100, 3, -100, 0, -100], [-100, 1, 2, -100, -100], [-100] * 5, [-100, 4, -100, -100, -100]])
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
FIRST = (LABELS != IGNORED).ravel()


def printed(student, teacher, first):
    return reference.sequence_labels(student, teacher, np.where(first, 1, IGNORED))


def example(seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal((20, 6)), scale * rng.standard_normal((20, 6)), FIRST]


def test_words_by_three_witnesses_and_on_a_device(strict_cupy):
    arrays = example()
    assert_close64(sequence_labels(*arrays).array, printed(*arrays))
    check_complex_step(sequence_labels, printed, arrays, [0])
    against_torch(sequence_labels, oracle.sequence_labels, arrays, without_gradient=[1])
    check_device(lambda *arrays: sequence_labels(*arrays, divisor=5), arrays, strict_cupy)


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_other_pieces_never_matter(poison):
    check_padding_never_matters(sequence_labels, example(1), {0: ~FIRST, 1: ~FIRST}, poison)


def test_equal_predictions_are_worth_the_teachers_entropy_and_no_gradient():
    _, teacher, first = example(2)
    value, (gradient, *_) = differentiated(sequence_labels, [teacher, teacher, first])
    p = np.exp(teacher) / np.exp(teacher).sum(axis=1, keepdims=True)
    assert_within(value, -(p * np.log(p)).sum(axis=1)[first].mean(), 1e-14)
    assert np.abs(gradient).max() < 1e-16


def test_a_temperature_softens_both_sides_without_a_factor():
    student, teacher, first = example(3)
    softened = sequence_labels(student, teacher, first, temperature=2.0)
    assert_within(softened.array, sequence_labels(student / 2, teacher / 2, first).array, 1e-14)


@pytest.mark.parametrize("positions", [None, np.array([1, 3, 4, 6, 7, 9, 16, 17])], ids=["every token", "positions"])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_words_of_shards_add_up_to_the_whole(parts, positions):
    batch = Batch(ids=np.zeros((4, 5), int), mask=MASK, labels=LABELS, positions=positions)
    read = np.arange(20) if positions is None else positions
    arrays = [x[read] for x in example(4)]
    assert words.divisor(batch) == arrays[2].sum() == 5 < len(read)

    def in_shards(student, teacher, _):
        total, begin = 0.0, 0
        for shard in batch.split(parts):
            end = begin + (shard.ids.size if positions is None else len(shard.positions))
            pair = (Features("toy", 1, None, logits=x[begin:end]) for x in (student, teacher))
            total, begin = words(*pair, shard, 5) + total, end
        return total

    assert_same(differentiated(in_shards, arrays), differentiated(sequence_labels, arrays))


def test_a_batch_without_labels_of_tokens_is_refused():
    for labels in (None, LABELS[:, 1]):
        with pytest.raises(ValueError, match="need labels: only rows that have one count in this convention"):
            words.divisor(Batch(ids=MASK, mask=MASK, labels=labels))
