from collections import Counter

import numpy as np
import pytest
from test_stdlib_modules import assert_no_near_duplicates

from tinydistill.backend import generator
from tinydistill.data import stdlib
from tinydistill.data.tokenizer import encode, special_ids, train_wordpiece
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.tasks import stdlib_modules, stdlib_replaced
from tinydistill.tasks.stdlib_replaced import RATE, TASK, Replaced, corrupt, unigram


@pytest.fixture(scope="module")
def documents():
    return stdlib.documents()


@pytest.fixture(scope="module")
def parts(documents):
    return stdlib_replaced.split(documents)


@pytest.fixture(scope="module")
def tokenizer(parts):
    return train_wordpiece(parts.pretraining, 1000)


@pytest.fixture(scope="module")
def scored(parts, tokenizer):
    """(originals, corrupted, labels) of the test part."""
    return encode(tokenizer, parts.test, 64), *Replaced(parts.test, parts.pretraining).encode(tokenizer, 64)[:2]


# ---------------------------------------------------------------- the split

def test_sizes(documents, parts):
    assert len(parts.train) == 1000 and len(parts.dev) > 400 and len(parts.test) > 1000
    assert len(parts.pretraining) > 0.75 * len(documents)


def test_nothing_that_is_scored_or_learned_from_was_seen_in_pretraining(parts):
    assert_no_near_duplicates(parts.pretraining, parts.train, parts.dev, parts.test)


def test_every_row_is_used_at_most_once_and_few_are_lost(documents, parts):
    used = Counter(parts.pretraining + parts.train + parts.dev + parts.test)
    assert max(used.values()) == 1 and used.keys() <= {document.text for document in documents}
    lost = [document for document in documents if document.text not in used]
    outside = [document for document in lost if stdlib_modules.package(document) is None]
    assert len(outside) < 0.05 * len(documents)     # training rows over 1,000; all others are held out by stdlib-modules


def test_the_split_does_not_depend_on_the_order_of_the_documents(documents, parts):
    order = np.random.default_rng(0).permutation(len(documents))
    shuffled = stdlib_replaced.split([documents[i] for i in order])
    for name in ("pretraining", "dev", "test"):
        assert Counter(getattr(shuffled, name)) == Counter(getattr(parts, name))


def test_training_rows_are_from_everywhere(documents, parts):
    position = {document.text: i / len(documents) for i, document in enumerate(documents)}
    where = np.array([position[text] for text in parts.train])
    assert abs(where.mean() - 0.5) < 5 / np.sqrt(12 * 300)                  # uniform over the corpus


# ---------------------------------------------------------------- the corruption

def test_label_1_is_what_differs_and_special_tokens_have_none(tokenizer, scored):
    special = special_ids(tokenizer)
    for ids, corrupted, labels in zip(*scored, strict=True):
        assert len(ids) == len(corrupted) == len(labels) <= 64 and corrupted.dtype == ids.dtype
        assert labels[0] == labels[-1] == IGNORED and corrupted[0] == special.cls and corrupted[-1] == special.sep
        inside = ids > max(special.pad, special.unk, special.cls, special.sep, special.mask)
        assert np.array_equal(labels == IGNORED, ~inside)
        assert np.array_equal(labels == 1, corrupted != ids)
        assert set(corrupted[inside].tolist()).isdisjoint({special.pad, special.unk, special.cls, special.sep,
                                                           special.mask})


def test_how_many_and_by_what_tokens_are_replaced(parts, tokenizer, scored):
    """The expected counts follow from RATE and p alone: a token w stands for an original t with chance RATE p[w]."""
    from scipy.stats import chi2
    corpus = np.concatenate(encode(tokenizer, parts.pretraining, 64))
    ids, corrupted, labels = (np.concatenate(column) for column in scored)
    count = Counter(corpus[corpus > 4].tolist())
    p = np.array([count[token] for token in range(tokenizer.get_vocab_size())]) / count.total()
    original = ids[labels != IGNORED]

    chance = RATE * (1 - p[original])
    assert abs((labels == 1).sum() - chance.sum()) < 5 * np.sqrt((chance * (1 - chance)).sum())

    expected = RATE * p * (len(original) - np.bincount(original, minlength=len(p)))
    observed = np.bincount(corrupted[labels == 1], minlength=len(p))
    assert observed[expected == 0].sum() == 0
    common = expected >= 5
    distance = ((observed - expected)[common] ** 2 / expected[common]).sum()
    assert common.sum() > 50 and 1e-6 < chi2.sf(distance, common.sum()) < 1 - 1e-6


def test_a_replacement_does_not_depend_on_what_it_replaces(scored):
    """Positions with a frequent and with a rare original are hit equally often."""
    ids, _, labels = (np.concatenate(column) for column in scored)
    ids, labels = ids[labels != IGNORED], labels[labels != IGNORED]
    frequent = np.bincount(ids)[ids] > np.median(np.bincount(ids)[ids])
    a, b = labels[frequent].mean(), labels[~frequent].mean()
    assert abs(a - b) < 5 * np.sqrt(RATE / frequent.sum() + RATE / (~frequent).sum()) + 0.05 * RATE


def test_the_same_row_is_corrupted_the_same_in_any_company(parts, tokenizer, scored):
    corrupted, labels, _ = Replaced(parts.test[40:30:-1], parts.pretraining).encode(tokenizer, 64)
    for k, i in enumerate(range(40, 30, -1)):
        assert np.array_equal(corrupted[k], scored[1][i]) and np.array_equal(labels[k], scored[2][i])


def test_another_seed_gives_another_corruption(parts, tokenizer, scored):
    other = np.concatenate(Replaced(parts.test, parts.pretraining, seed=1).encode(tokenizer, 64)[1])
    labels = np.concatenate(scored[2])
    both = np.mean((labels == 1) & (other == 1)) / np.mean(labels != IGNORED)
    assert both == pytest.approx(RATE**2, rel=0.25)                         # as often as two independent draws


def test_unigram_by_hand():
    p = unigram([np.array([2, 5, 6, 5, 3]), np.array([2, 1, 5, 3])], (0, 1, 2, 3, 4), 8)
    assert p.tolist() == [0, 0, 0, 0, 0, 0.75, 0.25, 0]


def test_redrawn_as_itself_is_label_0():
    p = np.array([0, 0, 0, 0, 0, 1.0])
    corrupted, labels = corrupt(np.array([2, 5, 5, 1, 5, 3], np.int32), p, (0, 1, 2, 3, 4), generator(0))
    assert corrupted.tolist() == [2, 5, 5, 1, 5, 3] and labels.tolist() == [IGNORED, 0, 0, IGNORED, 0, IGNORED]


def test_a_row_of_nothing_but_special_tokens_has_no_labels():
    _, labels = corrupt(np.array([2, 3], np.int32), np.full(8, 1 / 8), (0, 1, 2, 3, 4), generator(0))
    assert labels.tolist() == [IGNORED, IGNORED]


# ---------------------------------------------------------------- the task

def test_load_and_score(parts, tokenizer):
    examples = TASK.load()
    assert {name: len(part) for name, part in examples.items()} == {
        "train": 1000, "dev": len(parts.dev), "test": len(parts.test)}
    assert examples["dev"].texts == parts.dev and examples["dev"].corpus == parts.pretraining
    corrupted, labels, _ = examples["train"].encode(tokenizer, 64)
    known = [np.stack([5.0 - 2 * (row == 1), row == 1], -1) for row in labels]
    assert TASK.score(known, labels) == {"auc": 1.0} and TASK.metric == "auc"
    blind = [np.random.default_rng(len(row)).normal(size=(len(row), 2)) for row in labels]
    assert abs(TASK.score(blind, labels)["auc"] - 0.5) < 0.05
    rare = unigram(corrupted, (0, 1, 2, 3, 4), tokenizer.get_vocab_size())
    guess = [np.stack([rare[ids], np.zeros(len(ids))], -1) for ids in corrupted]
    assert abs(TASK.score(guess, labels)["auc"] - 0.5) < 0.06               # frequency alone gives nothing away


def test_a_data_folder_is_refused():
    with pytest.raises(WrongUsage, match=r"stdlib-replaced comes with Python: leave the data folder out \(got here\)"):
        stdlib_replaced.load("here")
