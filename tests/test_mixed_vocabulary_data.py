"""One text cut by two vocabularies: words, their mixtures, batches, shards, masks."""

import numpy as np
import pytest

from small_mixed import two_texts
from tinydistill.data import tokenizer as tokenizers
from tinydistill.data.mixed_vocabulary import MixedTexts, TwoTexts, batches_at, shared_ids
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.methods.stage import Recipe
from tinydistill.students.mixed_vocabulary import MixedBertConfig, second_rows

TEXTS = ["the cat sat on the mat", "a catalogue of sad mats, sitting", "on the cat", "Mats! sat; satiated catamaran",
         "at"]
RECIPE = Recipe(steps=4, batch_size=3, learning_rate=1e-3, max_length=12)
@pytest.fixture(scope="module")
def first():
    return tokenizers.train_wordpiece(TEXTS * 3, 60)


@pytest.fixture(scope="module")
def second():
    return tokenizers.train_wordpiece([text[::-1] for text in TEXTS * 3] + TEXTS, 45)


@pytest.fixture(scope="module")
def rows(first, second):
    sizes = [tokenizer.get_vocab_size() for tokenizer in (first, second)]
    return MixedBertConfig(1, 4, 1, 4, vocabulary=sum(sizes) - 5, second_vocabulary=sizes[1],
                           shared=shared_ids(first, second)).second_rows


@pytest.fixture(scope="module")
def texts(first, second, rows):
    return MixedTexts(TEXTS, first, second, rows, RECIPE, 7)


# ---------------------------------------------------------------- one text, two tokenisations

def test_special_tokens_are_shared_by_name(first, second):
    roberta = tokenizers.train_bpe(TEXTS, 300)
    assert shared_ids(first, second) == tuple((i, i) for i in range(5))
    assert shared_ids(first, roberta) == ((0, 1), (1, 3), (2, 0), (3, 2), (4, roberta.token_to_id("<mask>")))


def test_words_are_all_the_teachers_at_0_and_all_the_students_at_1(texts, first, second, rows):
    for i, by_first in enumerate(tokenizers.encode(first, TEXTS, 12)):
        np.testing.assert_array_equal(texts.row(i, 0, 0, 0.0), by_first)
    for i, by_second in enumerate(tokenizers.encode(second, TEXTS, 12)):
        np.testing.assert_array_equal(texts.row(i, 0, 0, 1.0), rows[by_second])         # [CLS], [SEP]: the shared rows


def test_a_word_is_whole_in_one_vocabulary_and_all_mixtures_come(texts, first, second, rows):
    def cut(word, by):
        ids = (second if by else first).encode(word, add_special_tokens=False).ids
        return tuple(rows[ids]) if by else tuple(ids)
    sentence = TEXTS[2].split()                                         # three words
    wanted = {(2, *cut(sentence[0], a), *cut(sentence[1], b), *cut(sentence[2], c), 3)
              for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    assert len(wanted) == 8 and {tuple(texts.row(2, 0, step, 0.5)) for step in range(100)} == wanted


def test_how_a_word_is_cut_is_a_function_of_seed_step_and_row(first, second, rows, texts):
    again = MixedTexts(TEXTS[::-1], first, second, rows, RECIPE, 7)
    for step in range(5):
        np.testing.assert_array_equal(texts.row(0, 2, step, 0.5), again.row(4, 2, step, 0.5))
    other = MixedTexts(TEXTS, first, second, rows, RECIPE, 8)
    for place, step, by in ((3, 0, texts), (0, 1, texts), (0, 0, other)):               # another row, step, or seed
        assert any(by.row(i, place, step, 0.5).tolist() != texts.row(i, 0, 0, 0.5).tolist() for i in range(5))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_words_is_the_probability(first, second, rows, p):
    long = MixedTexts(["cat"] * 50, first, second, rows, RECIPE, 3)
    by_first, = {tuple(long.row(0, 0, 0, 0.0))}
    share = np.mean([tuple(long.row(0, place, step, p)) != by_first for place in range(50) for step in range(80)])
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 4000)


def test_a_batch_has_the_same_texts_twice_and_no_more_tokens_than_it_may(texts, second):
    short = Recipe(steps=1, batch_size=5, learning_rate=1.0, max_length=6)
    whole = {i: row for i, row in enumerate(tokenizers.encode(second, TEXTS, 12))}
    for step in range(4):
        batch = texts.at(step, 0.5)
        assert len(batch) == len(batch.mixed) and (batch.rows == batch.mixed.rows).all()
        for b, i in enumerate(batch.indices):
            np.testing.assert_array_equal(batch.ids[b][batch.mask[b]], whole[i])
            np.testing.assert_array_equal(batch.mixed.ids[b][batch.mixed.mask[b]], texts.row(i, b, step, 0.5))
    cut = MixedTexts(TEXTS, tokenizers.train_wordpiece(TEXTS, 60), second, texts.rows, short, 0).at(0, 0.5)
    assert cut.ids.shape[1] == cut.mixed.ids.shape[1] == 6 and {2, 3} <= set(cut.mixed.ids[0])


def test_a_word_of_which_nothing_is_left_is_nowhere(first, second, rows):
    odd = MixedTexts(["cat \u200d\u0000 mat", "\u0000", " "], first, second, rows, RECIPE, 0)
    np.testing.assert_array_equal(odd.row(0, 0, 0, 0.0), tokenizers.encode(first, ["cat mat"], 12)[0])
    for i in (1, 2):
        assert odd.row(i, 0, 0, 0.5).tolist() == [2, 3]


@pytest.mark.parametrize("order", [1, -1])
def test_a_word_that_one_of_the_two_does_not_see_is_nowhere(second, order):
    """Bytes of control characters are pieces of a BPE, and nothing to WordPiece."""
    tokenizers_of = [tokenizers.train_bpe(TEXTS, 300), second][::order]
    rows = second_rows(tokenizers_of[0].get_vocab_size(), tokenizers_of[1].get_vocab_size(), shared_ids(*tokenizers_of))
    odd, plain = (MixedTexts([text], *tokenizers_of, rows, RECIPE, 0) for text in ("the \u0001 cat", "the cat"))
    for p in (0.0, 1.0):
        np.testing.assert_array_equal(odd.row(0, 0, 0, p), plain.row(0, 0, 0, p))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_both_texts_go_to_the_same_worker(shards):
    batch = two_texts(0)
    parts = batch.split(shards)
    assert len(parts) == shards
    for name in ("ids", "mask", "labels", "rows"):
        for side in ("own", "mixed"):
            together = np.concatenate([getattr(getattr(part, side), name) for part in parts])
            np.testing.assert_array_equal(together, getattr(getattr(batch, side), name))
    for part in parts:
        for side in (part.own, part.mixed):
            assert (side.labels.ravel()[side.positions] != IGNORED).all()
    assert sum(len(part.mixed.positions) for part in parts) == len(batch.mixed.positions)


@pytest.mark.parametrize("masking", ["bert", "counted", "frequency"])
def test_either_row_is_masked_and_predicted_in_the_vocabulary_of_the_word(first, second, rows, masking):
    at = batches_at(TEXTS, first, second, rows, RECIPE, 7, probability=lambda step: 0.5, masking=masking, rate=0.4)
    texts, seen = MixedTexts(TEXTS, first, second, rows, RECIPE, 7), set()
    for step in range(12):
        batch, plain = at(step), texts.at(step, 0.5)
        np.testing.assert_array_equal(batch.labels, at(step).labels)
        sizes = second.get_vocab_size(), rows.max() + 1
        for masked, whole, size in zip((batch, batch.mixed), (plain, plain.mixed), sizes):
            some = masked.labels != IGNORED
            np.testing.assert_array_equal(masked.labels[some], whole.ids[some])
            np.testing.assert_array_equal(masked.ids[~some], whole.ids[~some])
            np.testing.assert_array_equal(masked.positions, np.flatnonzero(some))
            assert masked.ids.max() < size and not set(masked.labels[some]) & {0, 2, 3, 4}
            assert (masked.ids[some] == 4).any() or not some.any()                      # [MASK] is shared
        seen |= set(batch.mixed.labels[batch.mixed.labels != IGNORED] >= first.get_vocab_size())
    assert seen == {False, True}


def test_random_tokens_are_of_either_vocabulary(first, second, rows):
    at = batches_at([10 * "cat "] * 30, first, second, rows, RECIPE.but(batch_size=30), 7, rate=1.0,
                    probability=lambda step: 0.0)
    seen = {int(i) for step in range(120) for i in at(step).mixed.ids.ravel()}
    assert seen == set(range(rows.max() + 1)) - {0, 1}                  # nothing is padded, nothing unknown


def test_fifteen_of_a_hundred_are_masked_unless_told_otherwise(first, second, rows):
    usual, told = (batches_at(TEXTS, first, second, rows, RECIPE, 7, probability=lambda step: 0.5, **rate)
                   for rate in ({}, {"rate": 0.15}))
    for step in range(8):
        np.testing.assert_array_equal(usual(step).labels, told(step).labels)
        np.testing.assert_array_equal(usual(step).mixed.labels, told(step).mixed.labels)


def test_a_probability_of_each_step(first, second, rows):
    at = batches_at(TEXTS, first, second, rows, RECIPE, 7, probability=lambda step: float(step == 1), rate=0.4)
    assert [bool((at(step).mixed.labels >= first.get_vocab_size()).any()) for step in range(2)] == [False, True]
    with pytest.raises(WrongUsage, match="^need a row for each of the .* pieces of the student's tokenizer; got 3$"):
        batches_at(TEXTS, first, second, rows[:3], RECIPE, 7, probability=lambda step: 0.5)


def test_two_texts_move_together(strict_cupy):
    there = two_texts(0).to(strict_cupy)
    assert isinstance(there, TwoTexts)
    assert all(isinstance(x, strict_cupy.ndarray) for x in (there.ids, there.labels, there.mixed.ids, there.mixed.mask))
    assert isinstance(there.rows, np.ndarray) and isinstance(there.mixed.rows, np.ndarray)
