"""The augmentation of Tang et al.: shares of masked and exchanged words, tags, runs, pairs, and what is dropped."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data.tang import augment


def tag(sentences):
    """Upper-case words are N, words with a digit D, the others V."""
    return [["N" if word.isupper() else "D" if any(map(str.isdigit, word)) else "V" for word in words]
            for words in sentences]


def distinct(count, length):
    """Rows of words that occur nowhere else, each its own kind."""
    return [([f"{n}w{i}" for i in range(length)],) for n in range(count)]


def altered(rows, texts, column=0):
    """(old word, new word) of every place of a text that was not cut."""
    return [pair for number, new in texts for pair in zip(rows[number][column], new[column].split(" "), strict=True)]


def test_shares_of_masks_and_exchanges():
    """Every word of every trial, five standard deviations; nearly all exchanges among 20,000 words are visible."""
    rows = distinct(1000, 20)
    pairs = altered(rows, augment(rows, tag, trials=1, mask=0.15, exchange=0.25))
    n = len(pairs)
    assert n == 20_000                                          # no two trials alike, none without a kept word
    for count, p in ((sum(new == "[MASK]" for _, new in pairs), 0.15),
                     (sum(new not in ("[MASK]", old) for old, new in pairs), 0.25 * (1 - 1 / n))):
        assert abs(count - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_an_exchange_is_for_a_word_of_the_same_tag():
    rows = [("A A A x y".split(),), ("B y".split(),)]
    texts = [new for seed in range(400) for new in augment(rows, tag, trials=3, mask=0.0, exchange=0.5, seed=seed)]
    pairs = altered(rows, texts)
    assert {new for old, new in pairs if old in "AB"} == {"A", "B"}
    assert {new for old, new in pairs if old in "xy"} == {"x", "y"}


def test_frequencies_of_exchanges():
    """A stands in three rows and B in one: a row of A turns to B with 0.7 / 4, a row of B to A with 3 * 0.7 / 4.

    What is seen are rows whose second word was kept, with 0.3 (five standard deviations)."""
    found, n = Counter(), 600
    for seed in range(n):
        rows = [(["A", "6x"],), (["A", "7x"],), (["A", "8x"],), (["B", "9x"],)]
        for number, (new,) in augment(rows, lambda texts: [["N", words[1]] for words in texts], trials=1, mask=0.0,
                                      exchange=0.7, seed=seed):
            found[number, new.split()[0]] += 1
    assert set(found) == {(0, "B"), (1, "B"), (2, "B"), (3, "A")}
    for (number, _), count in found.items():
        p = (3 if number == 3 else 1) * 0.7 / 4 * 0.3
        assert abs(count - n * p) < 5 * math.sqrt(n * p * (1 - p))


def test_what_is_not_new_is_dropped_and_so_is_what_keeps_no_word():
    rows = distinct(30, 3)
    assert list(augment(rows, tag, mask=1.0)) == []
    assert list(augment(rows, tag, mask=0.0, exchange=0.0)) == []
    found = [new for _, new in augment(rows, tag, trials=300, mask=0.5, exchange=0.0)]
    assert len(found) == len(set(found)) == 30 * 6              # of 8 patterns all but no mask and nothing but masks
    assert all(set(text.split()) != {"[MASK]"} for text, in found)


def test_the_number_of_trials():
    rows = distinct(1, 60)
    assert len(list(augment(rows, tag))) == 20 and len(list(augment(rows, tag, trials=3))) == 3
    pair = [(distinct(1, 60)[0][0], [f"v{i}" for i in range(60)])]
    assert len(list(augment(pair, tag))) == 10


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_a_run_is_a_part_of_the_text(length, seed):
    rows = [([f"w{i}" for i in range(length)],)]
    for _, (text,) in augment(rows, tag, trials=5, mask=0.0, exchange=0.0, n_gram=1.0, seed=seed):
        words = text.split()
        assert 1 <= len(words) <= 5 and " ".join(words) in " ".join(rows[0][0]) and len(words) < length


def test_runs_are_of_all_lengths_and_at_all_places():
    """Of six words: five lengths alike, and of each length all places, the last one, too (five standard deviations)."""
    n, rows = 6000, distinct(6000, 6)
    texts = [text.split() for _, (text,) in augment(rows, tag, trials=1, mask=0.0, exchange=0.0, n_gram=1.0)]
    assert len(texts) == n
    for length, count in Counter(map(len, texts)).items():
        assert 1 <= length <= 5 and abs(count - n / 5) < 5 * math.sqrt(n * 0.16)
        places = 7 - length
        for place, found in Counter(text[0][-1] for text in texts if len(text) == length).items():
            assert int(place) < places and abs(found - count / places) < 5 * math.sqrt(count / places)
    assert list(augment(rows[:9], tag, mask=0.0, exchange=0.0, n_gram=1.0, lengths=(6, 9))) == []      # whole, no news
    some = list(augment(distinct(2000, 9), tag, trials=1, mask=0.1, n_gram=0.25))
    cut = sum(len(text.split()) < 9 for _, (text,) in some)
    assert abs(cut - 500) < 5 * math.sqrt(2000 * 0.25 * 0.75)


def test_of_a_pair_one_or_both_are_altered():
    """Both with 1/3, else one by a coin (five standard deviations). Enough words that an altered text differs."""
    rows = [([f"{n}w{i}" for i in range(40)], [f"{n}v{i}" for i in range(40)]) for n in range(1500)]
    kinds = Counter()
    for number, new in augment(rows, tag, trials=1, mask=0.5):
        kinds[tuple(" ".join(old) != text for old, text in zip(rows[number], new))] += 1
    for kind, p in (((True, True), 1 / 3), ((True, False), 1 / 3), ((False, True), 1 / 3)):
        assert abs(kinds[kind] - 1500 * p) < 5 * math.sqrt(1500 * p * (1 - p))
    assert kinds.total() == 1500


def test_of_a_pair_only_altered_texts_are_cut():
    rows = [([f"{n}w{i}" for i in range(9)], [f"{n}v{i}" for i in range(9)]) for n in range(200)]
    cut = Counter(tuple(len(text.split()) < 9 for text in new) for _, new in augment(rows, tag, trials=1, mask=0.0,
                                                                                     exchange=0.0, n_gram=1.0))
    assert set(cut) == {(True, True), (True, False), (False, True)} and cut[True, True] < 120


def test_a_pair_may_lose_all_words_of_a_text_but_not_the_text():
    rows = [(["a1"], ["b1"])]
    assert {new for _, new in augment(rows, tag, trials=60, mask=1.0)} == {
        ("[MASK]", "b1"), ("a1", "[MASK]"), ("[MASK]", "[MASK]")}
    assert list(augment([(["a1"], [])], tag, trials=60, mask=1.0)) == []


@pytest.mark.parametrize("rows", [distinct(5, 8), [(["A", "b"], ["C", "d"])] * 2])
def test_seed_and_rows_decide(rows):
    assert list(augment(rows, tag)) == list(augment(rows, tag)) != list(augment(rows, tag, seed=1))
