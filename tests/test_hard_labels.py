"""Cross-entropy with the ground truth against PyTorch and the printed sum: masked tokens, classes, next sentences."""

import numpy as np
import pytest

from gradcheck import C, UNIT, assert_within
from loss_checks import check_complex_step, check_device, differentiated
from oracle import hard_labels as oracle
from oracle.torch_check import against_torch
from test_losses import B, T, V, sequence_batch, token_batch
from tinydistill import Tensor, gradients
from tinydistill.features import IGNORED, Batch, Features
from tinydistill.losses.hard_labels import (
    classes, label_loss, labelled, masked_lm, next_sentence, next_sentence_loss)
from tinydistill_reference import hard_labels as printed

# ---------------------------------------------------------------- labels of tokens and of sequences

def loss_of(logits, batch, divisor):
    return label_loss(Features("toy", 1, batch.mask, logits=logits), None, batch, divisor)


@pytest.mark.parametrize("batch", [token_batch(), token_batch(at_positions=False), sequence_batch(4, IGNORED, 0),
                                   sequence_batch(IGNORED, IGNORED, 2)],
                         ids=["at positions", "every token", "sequences", "one label"])
def test_labels_equal_pytorchs_cross_entropy(batch):
    read = batch.labels.ravel() if batch.positions is None else batch.labels.ravel()[batch.positions]
    assert 0 < labelled(batch) == (read != IGNORED).sum() < len(read)
    logits = 3 * np.random.default_rng(1).standard_normal((len(read), V))

    def ours(logits):
        return loss_of(logits, batch, labelled(batch))

    against_torch(ours, lambda x: oracle.label_loss(x, read, (read != IGNORED).sum()), [logits])


def test_labels_are_the_printed_sum_and_its_derivative():
    batch = token_batch(6, at_positions=False)
    logits, direction = np.random.default_rng(7).standard_normal((2, B * T, V))
    tensor, labels = Tensor(logits, requires_grad=True), batch.labels.ravel()
    loss = loss_of(tensor, batch, labelled(batch))
    assert_within(loss.array, printed.cross_entropy(logits, labels), 1e-14)
    exact = printed.cross_entropy(logits + 1e-40j * direction, labels).imag / 1e-40
    assert_within((gradients(loss, [tensor])[0] * direction).sum(), exact, 1e-13)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_of_labels_add_up_to_the_whole(shards):
    batch = token_batch(2)
    batch.labels[1] = IGNORED                                           # a shard without any label adds nothing
    logits = Tensor(np.random.default_rng(3).standard_normal((B * T, V)), requires_grad=True)
    divisor, total, first = labelled(batch), 0.0, 0
    for shard in batch.split(shards):
        rows = shard.positions + first                                  # of the flattened whole
        total, first = loss_of(logits[rows], shard, divisor) + total, first + shard.ids.size
    whole = loss_of(logits[batch.positions], batch, divisor)
    assert_within(total.array, whole.array, C * UNIT * whole.array)
    (got,), (want,) = gradients(total, [logits]), gradients(whole, [logits])
    assert_within(got, want, C * UNIT * np.abs(want).max())


def test_without_labels_the_loss_and_its_gradient_are_zero():
    batch = token_batch(share=0.0, at_positions=False)
    logits = Tensor(np.random.default_rng(4).standard_normal((B * T, V)), requires_grad=True)
    loss = loss_of(logits, batch, labelled(batch))
    assert labelled(batch) == 0 and loss.item() == 0
    assert (gradients(loss, [logits])[0] == 0).all()


@pytest.mark.parametrize("term", [masked_lm, classes], ids=lambda term: term.name)
def test_both_terms_of_labels_are_the_loss_over_the_labels_of_the_whole_batch(term):
    batch = token_batch(8)
    logits = np.random.default_rng(9).standard_normal((len(batch.positions), V))
    student = Features("toy", 1, batch.mask, logits=Tensor(logits))
    assert term.divisor(batch) == labelled(batch) == (batch.labels != IGNORED).sum() < batch.labels.size
    assert term(student, None, batch, 7).item() == loss_of(Tensor(logits), batch, 7).item()


# ---------------------------------------------------------------- next sentences

FOLLOWS = np.array([0, 1, 1, 0, 1])


def of_pairs(labels):
    return Batch(ids=np.zeros((len(labels), T), int), mask=np.ones((len(labels), T), bool), next_sentence=labels)


def next_loss(logits, labels=FOLLOWS, divisor=None):
    student = Features("toy", 1, None, next_sentence=logits)
    return next_sentence_loss(student, None, of_pairs(labels), divisor or len(labels))


def drawn(seed=0):
    return 2 * np.random.default_rng(seed).standard_normal((len(FOLLOWS), 2))


def test_next_sentences_equal_pytorchs_cross_entropy():
    against_torch(next_loss, lambda x: oracle.label_loss(x, FOLLOWS, len(FOLLOWS)), [drawn()])


def test_next_sentences_are_the_printed_sum_and_its_derivative():
    value, _ = differentiated(next_loss, [drawn(1)])
    assert_within(value, printed.cross_entropy(drawn(1), FOLLOWS), 1e-14)
    check_complex_step(next_loss, lambda x: printed.cross_entropy(x, FOLLOWS), [drawn(1)], [0])


def test_class_0_is_that_the_second_follows():
    """One pair that the model takes to follow, at odds of e^2: right costs log(1 + e^-2), wrong 2 more."""
    sure = np.array([[1.0, -1.0]])
    right, wrong = (next_loss(Tensor(sure), np.array([label])).item() for label in (0, 1))
    assert_within(np.array([right, wrong]), np.log1p(np.exp(-2)) + np.array([0.0, 2.0]), 1e-15)


@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_shards_of_next_sentences_add_up_to_the_whole(shards):
    batch, logits = of_pairs(FOLLOWS), Tensor(drawn(2), requires_grad=True)
    divisor, total = next_sentence.divisor(batch), 0.0
    assert divisor == len(FOLLOWS)                  # sequences, not tokens
    for shard in batch.split(shards):
        student = Features("toy", 1, shard.mask, next_sentence=logits[shard.rows])
        total = next_sentence(student, None, shard, divisor) + total
    whole = next_loss(logits)
    assert_within(total.array, whole.array, C * UNIT * whole.array)
    (got,), (want,) = gradients(total, [logits]), gradients(whole, [logits])
    assert_within(got, want, C * UNIT * np.abs(want).max())


def test_next_sentences_on_a_device(strict_cupy):
    check_device(next_loss, [drawn(3), FOLLOWS], strict_cupy)
