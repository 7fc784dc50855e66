"""A BERT that reads and predicts words of two vocabularies, its loss, and what is left of it of one vocabulary."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loss_checks
import strict_device
from gradcheck import assert_close64, assert_within
from oracle import bert
from oracle import shared_projection as oracle
from oracle.torch_check import against_torch
from small_bert import dense
from small_mixed import ROWS, SECOND, SHARED, mixed_batch, mixed_teacher, plain_teacher, two_texts, whole
from tinydistill import Tensor, gradients, hub, kernels, ops
from tinydistill.backend import to_host
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import IGNORED, Batch, Features, Needs, Pass
from tinydistill.hub_names import FORMS
from tinydistill.losses import TERMS
from tinydistill.losses.shared_projection import mixed_label_loss
from tinydistill.students.bert import Bert
from tinydistill.students.mixed_vocabulary import MixedBert, MixedBertConfig, folded, parameter_count, widened
from tinydistill_reference import shared_projection as reference
from toys import VOCABULARY

LOGITS = Needs.of(logits=True)
TERM = TERMS["shared_projection.mixed_masked_lm"]


# ---------------------------------------------------------------- the model

def test_shared_rows_come_first_and_are_counted_once():
    config = mixed_teacher().config
    assert (config.first_vocabulary, config.second_vocabulary, config.vocabulary) == (VOCABULARY, SECOND, 25)
    np.testing.assert_array_equal(config.second_rows, ROWS)
    np.testing.assert_array_equal(config.columns.sum(1), [VOCABULARY, SECOND])
    assert set(np.flatnonzero(config.columns[0] & config.columns[1])) == {row for row, _ in SHARED}
    assert str(config) == "mixed-vocabulary BERT 2x12" and config.but(head="none").second_vocabulary == SECOND
    built = sum(p.array.size for p in mixed_teacher().parameters())
    assert parameter_count(config)["total"] == built == parameter_count(plain_teacher().config)["total"] + 6 * 13


@pytest.mark.parametrize("choice", ["fused", "plain"])
def test_two_softmaxes_in_pytorch_and_the_gradient_of_every_parameter(choice, tmp_path):
    model, batch = mixed_teacher(), mixed_batch(1)
    labels = batch.labels.ravel()[batch.positions]
    assert {True, False} == set(labels >= VOCABULARY)
    twin = bert.twin(whole(model), tmp_path)
    want, their = oracle.value_and_gradients(twin, batch, VOCABULARY, ROWS)
    with kernels.use(choice):
        features = model(batch, Pass(LOGITS))
        loss = TERM(features, None, batch, TERM.divisor(batch))
        found = gradients(loss, model.parameters())
    assert_close64(loss.array, want)
    plain = bert.features(twin, batch)["logits", None]
    own = model.config.columns[(labels >= VOCABULARY).astype(int)]
    assert_close64(np.where(own, features.logits.array, 0), np.where(own, plain, 0))
    assert (features.logits.array[~own] == -np.inf).all()
    largest = max(np.abs(g).max() for g in their.values())
    for name, gradient in zip(model.named_parameters(), found, strict=True):
        assert_within(dense(gradient), their[FORMS["bert"].name(name)], 1e-10 * largest, name)


def test_without_labels_the_logits_are_those_of_all_rows():
    model, batch = mixed_teacher(), mixed_batch(1)
    for labels in (None, batch.labels):
        found = model(replace(batch, labels=labels), Pass(LOGITS)).logits.array
        want = whole(model)(batch, Pass(LOGITS)).logits.array
        assert np.isfinite(found).all() == (labels is None)
        np.testing.assert_array_equal(found[np.isfinite(found)], want[np.isfinite(found)])
    everywhere = model(replace(batch, positions=None), Pass(LOGITS)).logits.array       # without a label: the first's
    assert np.isfinite(everywhere).sum(1).tolist() == [SECOND if label >= VOCABULARY else VOCABULARY
                                                       for label in batch.labels.ravel()]


@pytest.mark.parametrize("second", [False, True])
def test_a_text_of_one_vocabulary_has_the_same_logits_in_the_plain_bert_that_is_left(second, tmp_path):
    model, batch = mixed_teacher(), two_texts(2).own
    rows = ROWS if second else np.arange(SECOND)
    there = replace(batch, ids=rows[batch.ids], labels=None)
    plain = folded(model, second)
    assert type(plain) is Bert and plain.config.model_type == "bert"
    assert plain.config.vocabulary == (SECOND if second else VOCABULARY)
    found, of_all = plain(batch, Pass(LOGITS)).logits.array, model(there, Pass(LOGITS)).logits.array
    assert_close64(found, of_all[:, ROWS if second else np.arange(VOCABULARY)])
    twin = bert.twin(plain, tmp_path)                                   # transformers opens it
    assert_close64(found, bert.features(twin, batch)["logits", None])


@pytest.mark.parametrize("tied", [True, False])
def test_a_bert_that_learns_a_second_vocabulary_is_for_its_own_what_it_was(tied):
    plain, batch = plain_teacher(tied=tied), mixed_batch(3)
    batch = replace(batch, ids=batch.ids % VOCABULARY, labels=None)
    before = {name: array.copy() for name, array in plain.arrays().items()}
    model = widened(plain, SECOND, SHARED, seed=5)
    np.testing.assert_allclose(model(batch, Pass(LOGITS)).logits.array[:, :VOCABULARY],
                               plain(batch, Pass(LOGITS)).logits.array, rtol=1e-12, atol=1e-12)
    back = folded(model)
    assert back.config == plain.config
    for name, array in before.items():
        np.testing.assert_array_equal(back.arrays()[name], array)
    words = model.arrays()["embeddings.word.weight"]
    assert words.dtype == np.float64 and 0.2 < words[VOCABULARY:].std() < 0.6           # initial_std 0.4
    assert not model.arrays()["head.bias"][VOCABULARY:].any()
    drawn = [widened(plain, SECOND, SHARED, *seed).arrays()["embeddings.word.weight"] for seed in ((), (0,), (6,))]
    assert (drawn[0] == drawn[1]).all() and (drawn[1] != drawn[2]).any() and (words != drawn[2]).any()
    with pytest.raises(WrongUsage, match="^need a BERT to give a second vocabulary; got mixed-vocabulary BERT 2x12$"):
        widened(model, 4)
    assert widened(plain_teacher(head="none"), SECOND).config.vocabulary == VOCABULARY + SECOND


def test_padding_ids_of_the_second_vocabulary_are_its_own():
    plain = plain_teacher(pad_id=3)
    assert folded(widened(plain, SECOND, SHARED), second=True).config.pad_id == 1
    assert folded(widened(plain, SECOND), second=True).config.pad_id == 0


@given(st.integers(1, 9), st.data())
def test_any_two_vocabularies(size, data):
    count = data.draw(st.integers(0, min(size, 5)))
    some = [data.draw(st.permutations(range(n)))[:count] for n in (VOCABULARY, size)]
    shared = tuple(zip(*some))
    model = widened(plain_teacher(), size, shared)
    config, batch = model.config, mixed_batch(0)
    assert config.vocabulary == VOCABULARY + size - count == len(model.arrays()["head.bias"])
    assert sorted({*config.second_rows, *range(VOCABULARY)}) == list(range(config.vocabulary))
    assert len(set(config.second_rows)) == size and all(config.second_rows[piece] == row for row, piece in shared)
    ids, labels = batch.ids % config.vocabulary, np.where(batch.labels >= 0, batch.labels % config.vocabulary, IGNORED)
    features = model(replace(batch, ids=ids, labels=labels), Pass(LOGITS))
    finite = np.isfinite(features.logits.array).sum(1)
    second = labels.ravel()[batch.positions] >= VOCABULARY
    np.testing.assert_array_equal(finite, np.where(second, size, VOCABULARY))
    assert MixedBertConfig(**{**config.as_dict(), "labels": ()}) == config              # as from a file


@pytest.mark.parametrize("changes, text", [
    ({"shared": ((0, 0), (0, 1))}, r"need every shared row once and below 6; got \[0, 0\]"),
    ({"shared": ((5, 0),)}, r"need every shared row once and below 5; got \[5\]"),
    ({"shared": ((0, 4),)}, r"need every shared piece once and below 4; got \[4\]"),
    ({"shared": ((0, 1), (1, 1))}, r"need every shared piece once and below 4; got \[1, 1\]"),
    ({"shared": ((0, -1),)}, "need every shared piece once"),
    ({"shared": ("ab",)}, r"need shared to be pairs of whole numbers; got \('ab',\)"),
    ({"shared": (5,)}, r"need shared to be pairs of whole numbers; got \(5,\)"),
    ({"heads": 3}, "need a hidden size that the heads divide: 4 hidden, 3 heads"),
    ({"shared": [[1, 2, 3]]}, "need shared to be pairs of whole numbers"),
    ({"shared": [[True, 1]]}, "need shared to be pairs of whole numbers"),
    ({"second_vocabulary": 8}, "need a first vocabulary and a second: 8 rows in all, 8 of the second, 0 shared"),
    ({"second_vocabulary": -1}, "need a first vocabulary and a second")])
def test_vocabularies_that_cannot_be_are_refused(changes, text):
    with pytest.raises(WrongUsage, match=text):
        MixedBertConfig(1, 4, 1, 4, vocabulary=8, second_vocabulary=4).but(**changes)


def test_a_first_vocabulary_may_be_all_shared():
    config = MixedBertConfig(1, 4, 1, 4, vocabulary=8, second_vocabulary=8, shared=[[0, 3]])
    assert config.first_vocabulary == 1 and config.second_rows.tolist() == [1, 2, 3, 0, 4, 5, 6, 7]
    assert config.as_dict()["shared"] == [[0, 3]] and config.shared == ((0, 3),)
    alone = MixedBertConfig(1, 4, 1, 4)
    assert (alone.first_vocabulary, alone.second_vocabulary, len(alone.second_rows)) == (30522, 0, 0)


@pytest.mark.parametrize("head", ["sequence", "token"])
def test_classes_are_of_no_vocabulary(head):
    model, batch = mixed_teacher(head=head, labels=("a", "b"), pooler=True), mixed_batch(1)
    labels = np.zeros(len(batch), int) if head == "sequence" else batch.labels
    found = model(replace(batch, labels=labels), Pass(LOGITS)).logits.array
    assert found.shape[1] == 2 and np.isfinite(found).all()


def test_a_directory_of_it_says_that_transformers_cannot_express_it_and_opens_equal(tmp_path):
    model = mixed_teacher()
    hub.write(model, tmp_path)
    again = hub.read(tmp_path)
    assert isinstance(again, MixedBert) and again.config == model.config
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    text = (tmp_path / hub.CONFIG).read_text()
    assert "transformers cannot express" in text and '"tinydistill-mixed-bert"' in text
    (tmp_path / hub.CONFIG).write_text(text.replace('"shared": [', '"shared": [["a", 1],'))
    with pytest.raises((Problem, WrongUsage), match="pairs of whole numbers"):
        hub.read(tmp_path)


def test_on_a_device_the_numbers_are_the_same_and_the_host_never_waits(strict_cupy):
    model, batch = mixed_teacher(), mixed_batch(1)
    divisor, moved, found = TERM.divisor(batch), batch.to(strict_cupy), []
    for xp, here in ((np, batch), (strict_cupy, moved)):
        model.to(xp)
        with kernels.use("plain"), strict_device.no_sync():
            value = TERM(model(here, Pass(LOGITS)), None, here, divisor)
            arrays = [value.array, *map(dense, gradients(value, model.parameters()))]
        found.append(np.concatenate([to_host(array).ravel() for array in arrays]))
    assert_close64(*found)


def test_float32_stays_float32():
    model, batch = mixed_teacher().to(np, np.float32), mixed_batch(1)
    value = TERM(model(batch, Pass(LOGITS)), None, batch, TERM.divisor(batch))
    arrays = [value.array, *map(dense, gradients(value, model.parameters()))]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


# ---------------------------------------------------------------- the loss of the two softmaxes

N = 6
COLUMNS = [np.arange(VOCABULARY), ROWS]
OF_SECOND = np.array([0, 1, 1, 0, 1, 0])
LABELS = np.array([3, 21, 24, 18, 20, 0])
OWN = np.array([np.isin(np.arange(25), COLUMNS[second]) for second in OF_SECOND])
X = 2 * np.random.default_rng(4).standard_normal((N, 25))


def loss(x, divisor=N):
    """As the model leaves the logits: -inf for the other vocabulary."""
    batch = Batch(ids=np.zeros((1, N), int), mask=np.ones((1, N), bool), labels=LABELS[None])
    logits = ops.masked(x, mask=OWN, fill=-float("inf"))
    return mixed_label_loss(Features("six tokens", 0, batch.mask, logits=logits), None, batch, divisor)


def printed(x):
    return reference.mixed_masked_lm(x, LABELS, OWN)


def test_value_and_derivative_are_those_of_the_printed_sum():
    assert_close64(loss(X).array, printed(X))
    loss_checks.check_complex_step(loss, printed, [X], [0])


def test_the_gradient_is_softmax_minus_onehot_in_one_vocabulary():
    x = Tensor(X, requires_grad=True)
    found, = gradients(loss(x), [x])
    e = np.where(OWN, np.exp(X), 0)
    assert_close64(found, (e / e.sum(1, keepdims=True) - np.eye(25)[LABELS]) / N)
    assert not found[~OWN].any()


def test_in_pytorch_in_both_precisions():
    against_torch(loss, lambda x: oracle.mixed_masked_lm(x, LABELS, VOCABULARY, ROWS), [X])


def test_the_term_reads_the_teachers_part_of_features_and_batch_and_any_split_adds_up():
    model, batch = mixed_teacher(), two_texts(3)
    features = [model(part.mixed, Pass(LOGITS)) for part in (batch, *batch.split(3))]
    divisor = TERM.divisor(batch)
    assert divisor == (batch.mixed.labels != IGNORED).sum() == TERM.divisor(batch.mixed)
    values = [TERM(one, None, part.mixed, divisor).item() for one, part in zip(features, (batch, *batch.split(3)))]
    assert abs(sum(values[1:]) - values[0]) < 1e-12 and values[0] > 1
