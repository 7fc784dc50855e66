"""Sentence pairs: nothing is lost but what is cut, B follows or comes from elsewhere, and chances are what they say."""

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data import pairs as module
from tinydistill.data import tokenizer as tokenizers
from tinydistill.data.pairs import documents, pack
from tinydistill.data.tokenizer import SpecialIds
from tinydistill.errors import WrongUsage

SPECIAL = SpecialIds(pad=0, unk=1, cls=2, sep=3, mask=4)


def numbered(*lengths):
    """Documents whose ids say where they stand: 1000 d + place; lengths, the tokens of each sentence of a document."""
    made = []
    for d, sentences in enumerate(lengths, 1):
        ids = iter(range(1000 * d, 1000 * (d + 1)))
        made.append([[next(ids) for _ in range(n)] for n in sentences])
    return made


def parts(pairs):
    """(A, B, is_next) of each pair, checked for the frame and the token types."""
    for ids, types, follows in zip(*pairs, strict=True):
        first, last = np.flatnonzero(ids == SPECIAL.sep)
        assert ids[0] == SPECIAL.cls and last == len(ids) - 1
        assert types.tolist() == [0] * (first + 1) + [1] * (last - first)
        yield ids[1:first].tolist(), ids[first + 1:last].tolist(), bool(follows)


lengths = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=2, max_size=5)


@given(lengths, st.integers(5, 40), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 2**32))
def test_a_pair_is_two_runs_of_tokens_that_follow_or_are_of_two_documents(lengths, max_length, short, seed):
    pairs = pack(numbered(*lengths), SPECIAL, max_length, short, seed)
    assert len(pairs.sequences) == len(pairs.token_types) == len(pairs.is_next) and pairs.is_next.dtype == bool
    for a, b, follows in parts(pairs):
        assert a and b and len(a) + len(b) + 3 <= max_length
        for part in (a, b):
            assert part == list(range(part[0], part[0] + len(part)))
        assert (a[0] // 1000 == b[0] // 1000) == follows
        if follows:
            assert b[0] > a[-1]
        if follows and len(a) + len(b) + 3 < max_length:
            assert b[0] == a[-1] + 1                            # nothing was cut


@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.integers(5, 40), st.integers(0, 2**32))
def test_every_sentence_comes_as_a_or_as_the_b_that_follows_and_none_twice(counts, max_length, seed):
    """Sentences of one token: then nothing is ever cut."""
    whole = numbered(*([1] * count for count in counts))
    read = [token for a, b, follows in parts(pack(whole, SPECIAL, max_length, 0.1, seed)) for token in a + b * follows]
    assert read == [token for document in whole for sentence in document for token in sentence]


def test_pairs_fill_up():
    assert max(map(len, pack(numbered([1] * 500, [1] * 500), SPECIAL).sequences)) == 128
    pairs = pack(numbered([1] * 500, [1] * 500), SPECIAL, 20, 0.0)
    assert Counter(map(len, pairs.sequences)).most_common(1)[0][0] == 20
    for a, b, follows in parts(pairs):
        assert len(a) + len(b) == 17 or b[-1] % 1000 == 499 or (follows and a[0] % 1000 > 480)      # or all that is left


def test_a_short_pair_has_any_length_from_two_to_the_limit():
    """Three tokens at most: half of the documents have pairs of two (five standard deviations)."""
    longest = {}
    for a, b, _ in parts(pack(numbered(*[[1] * 30] * 300), SPECIAL, 6, 1.0)):
        longest[a[0] // 1000] = max(longest.get(a[0] // 1000, 0), len(a) + len(b))
    assert set(longest.values()) == {2, 3} and len(longest) == 300
    assert abs(list(longest.values()).count(2) - 150) < 5 * math.sqrt(75)


def test_half_of_b_follow():
    """Of pairs that could be cut in two: a coin (five standard deviations)."""
    follows = pack(numbered(*[[1] * 900] * 6), SPECIAL, 12, 0.0).is_next
    assert len(follows) > 400 and abs(follows.sum() - len(follows) / 2) < 5 * math.sqrt(len(follows) / 4)
    assert not pack(numbered(*[[20] * 9] * 3), SPECIAL, 12, 0.0).is_next.any()      # one sentence fills a pair


def test_a_share_of_documents_is_packed_short():
    """Document by document: the longest pair of a short one has fewer tokens (five standard deviations)."""
    longest = {}
    for a, b, _ in parts(pack(numbered(*[[1] * 90] * 400), SPECIAL, 33, 0.1)):
        longest[a[0] // 1000] = max(longest.get(a[0] // 1000, 0), len(a) + len(b))
    n = sum(length < 30 for length in longest.values())
    p = 0.1 * 28 / 29                                           # 30 itself is one of the 29 sizes
    assert len(longest) == 400 and abs(n - 400 * p) < 5 * math.sqrt(400 * p * (1 - p))
    assert min(longest.values()) < 10


def test_the_other_document_is_drawn_by_its_number_of_sentences():
    """Document 2 has three times the sentences of document 3 (five standard deviations)."""
    whole = [[[n] * 20 for _ in range(count)] for n, count in ((5, 1200), (6, 30), (7, 10))]
    other = Counter(b[0] for a, b, _ in parts(pack(whole, SPECIAL, 12, 0.0)) if a[0] == 5)
    assert other.keys() == {6, 7} and other.total() == 1200
    assert abs(other[6] - 900) < 5 * math.sqrt(1200 * 3 / 16)


def test_a_random_b_begins_anywhere():
    starts = {b[0] % 1000 for a, b, follows in parts(pack(numbered([1] * 999, [1] * 50), SPECIAL, 8, 0.0))
              if a[0] < 2000 and not follows}
    assert len(starts) > 40 and max(starts) == 49 and min(starts) == 0


@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 40), st.integers(0, 2**32))
def test_cutting_takes_from_the_longer_one_at_either_end(first, second, room, seed):
    a, b = module._truncated(list(range(first)), list(range(100, 100 + second)), room, np.random.default_rng(seed))
    expected = [first, second]
    while sum(expected) > room:
        expected[0 if expected[0] > expected[1] else 1] -= 1    # of equals, B
    assert [len(a), len(b)] == expected
    for part in (a, b):
        assert part == list(range(part[0], part[0] + len(part))) if part else True


def test_cutting_tosses_a_coin():
    random = np.random.default_rng(0)
    front = [module._truncated([1], list(range(101)), 2, random)[1][0] for _ in range(400)]
    assert abs(np.mean(front) - 50) < 5 * 5 / math.sqrt(400)    # 100 tosses: 50 +- 5


def test_seed_epoch_and_document_decide_and_nothing_else():
    whole = numbered([2] * 50, [3] * 50, [1] * 80)

    def packed(**at):
        return [ids.tolist() for ids in pack(whole, SPECIAL, 16, **at).sequences]
    assert packed(seed=1, epoch=2) == packed(seed=1, epoch=2) and packed() == packed(short=0.1, seed=0, epoch=0)
    assert len({str(packed(seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    alike = pack([[[7], [8], [9]] * 30] * 2, SPECIAL, 16)       # two equal documents are not packed alike
    half = len(alike.sequences) // 2
    assert [ids.tolist() for ids in alike.sequences[:half]] != [ids.tolist() for ids in alike.sequences[half:]]


def test_empty_sentences_and_documents_are_left_out():
    whole = numbered([1] * 20, [1] * 20)
    holes = [[], [[], *whole[0], []], [[]], whole[1]]
    for one, other in zip(pack(whole, SPECIAL, 16), pack(holes, SPECIAL, 16)):
        assert all(np.array_equal(a, b) for a, b in zip(one, other))


def test_what_cannot_be_packed():
    with pytest.raises(WrongUsage, match="need at least two documents, for sentences that do not follow; got 1$"):
        pack([[[5]], [[]]], SPECIAL)
    with pytest.raises(WrongUsage, match="a maximum length with room for 3 special tokens and two sentences; got 4$"):
        pack([[[5]], [[6]]], SPECIAL, max_length=4)


def test_documents_of_lines():
    assert documents([]) == [] == documents(["", " "])
    assert documents(["", " a ", "b", "\t", "", "c", ""]) == [["a", "b"], ["c"]]


def test_wikitext():
    if "TINYDISTILL_DATA" not in os.environ:
        pytest.skip("TINYDISTILL_DATA is not set: wikitext-2 is not part of the project")
    data = Path(os.environ["TINYDISTILL_DATA"])
    tokenizer = tokenizers.load(data / "BERT-vocab")
    special = tokenizers.special_ids(tokenizer)
    lines = (data / "wikitext-2" / "valid.txt").read_text("utf-8").split("\n")[:1200]
    texts = [[sentence for line in document for sentence in line.split(" . ")] for document in documents(lines)]
    whole = [[e.ids for e in tokenizer.encode_batch(text, add_special_tokens=False)] for text in texts]
    pairs = pack(whole, special, 128)
    sizes = np.array([len(ids) for ids in pairs.sequences])
    assert len(pairs.sequences) > 300 and sizes.max() == 128 and np.mean(sizes > 100) > 0.5
    assert 0.2 < pairs.is_next.mean() < 0.5                     # short documents have one sentence: never next
