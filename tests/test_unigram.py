"""Unigram's training against sums over all segmentations, written out, and the tokenizer that comes of it."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck import assert_close64
from tinydistill.data import unigram
from tinydistill.data.tokenizer import encode, special_ids, train_unigram
from tinydistill.errors import WrongUsage

PIECES = ["a", "b", "c", "ab", "bc", "abc", "ca", "aa"]
WORDS = {"abc": 3, "a": 1, "aab": 2, "cab": 5, "abca": 1, "bbbb": 2}
word_counts = st.dictionaries(st.text("abc", min_size=1, max_size=6), st.integers(1, 9), min_size=1, max_size=12)


def segmentations(word):
    """Every way to cut a word."""
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(word)]
        yield [word[begin:end] for begin, end in zip(places, places[1:])]


def likelihood(word, p):
    """P(word): the sum over its segmentations of the product of their pieces' probabilities."""
    return sum(math.prod(p.get(piece, 0.0) for piece in cut) for cut in segmentations(word))


def expected(words, p):
    counts = dict.fromkeys(p, 0.0)
    for word, count in words.items():
        whole = likelihood(word, p)
        for cut in segmentations(word):
            weight = count * math.prod(p.get(piece, 0.0) for piece in cut) / whole
            for piece in cut:
                if piece in counts:
                    counts[piece] += weight
    return [counts[piece] for piece in p]


@given(word_counts, st.lists(st.floats(0.1, 1), min_size=8, max_size=8))
def test_expected_counts_are_those_of_all_segmentations(words, weights):
    p = np.array(weights) / sum(weights)
    tables = unigram._tables(words, PIECES)
    found = sum(table.expected(np.log(p), np.array([words[word] for word in table.words])) for table in tables)
    assert_close64(found, np.array(expected(words, dict(zip(PIECES, p)))))


def test_what_a_piece_is_worth_without_itself():
    p = dict(zip(PIECES, np.arange(1.0, 9) / 36))
    for table in unigram._tables(PIECES[3:], PIECES):
        found = np.exp(table.from_others(np.log(list(p.values()))))
        assert_close64(found, np.array([likelihood(word, p | {word: 0.0}) for word in table.words]))


@given(word_counts)
def test_training_never_makes_the_texts_less_likely(words):
    """Of EM, where nothing is dropped and nothing is counted as a half."""
    counts = np.ones(len(PIECES))
    kept = np.arange(len(PIECES))

    def total(p):
        return sum(count * np.log(likelihood(word, p)) for word, count in words.items())
    before = total(dict(zip(PIECES, counts / 8)))
    for _ in range(3):
        p = dict(zip(PIECES, counts / counts.sum()))
        assert total(p) >= before - 1e-9
        before, counts = total(p), np.array(expected(words, p))
        if counts.min() < 0.5:
            return
        np.testing.assert_allclose(unigram._probabilities(counts, kept), np.log(counts / counts.sum()), rtol=1e-12)


def test_a_half_is_the_least_that_a_piece_is_counted():
    log_p = unigram._probabilities(np.array([3.0, 0.0, 9.0, 0.2]), np.array([0, 1, 3]))
    np.testing.assert_allclose(np.exp(log_p), np.array([3, 0.5, 0, 0.5]) / 4)


def test_candidates_are_what_is_repeated_and_no_longer_than_a_piece_may_be():
    pieces, counts = unigram._candidates({"abab": 2, "x" * 20: 1}, ["a", "b", "x"], 9)
    assert pieces == ["a", "b", "x", *("x" * n for n in (10, 11, 9, 12, 8, 13))]   # by (21 - n) n, then by the piece
    assert counts.tolist() == [4, 4, 20, 11, 10, 12, 9, 13, 8]
    assert unigram._candidates({"abab": 1, "x" * 20: 1}, ["a", "b", "x"], 3)[0] == ["a", "b", "x"]
    assert unigram._candidates({"abcab": 1}, ["a", "b", "c"], 9)[0] == ["a", "b", "c", "ab"]    # the others come once
    pieces, counts = unigram._candidates({"abab": 2, "x" * 20: 1}, ["a", "b", "x"], 99)
    assert max(map(len, pieces)) == 16 and dict(zip(pieces, counts))["ab"] == 4 and "x" * 16 in pieces


def test_the_smallest_losses_are_dropped_first_and_never_a_character():
    """To the letters alone, and to one piece more: that which is worth most."""
    pieces, log_p = unigram.learned(WORDS, ["a", "b", "c"], 3)
    assert pieces == ["a", "b", "c"]
    letters = np.array([sum(word.count(letter) * count for word, count in WORDS.items()) for letter in "abc"])
    assert_close64(np.exp(log_p), letters / letters.sum())
    assert unigram.learned(WORDS, ["a", "b", "c"], 4)[0] == ["a", "b", "c", "cab"]
    everything, _ = unigram.learned(WORDS, ["a", "b", "c"], 99)
    assert set(everything) == set(unigram._candidates(WORDS, ["a", "b", "c"], 990)[0])


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), st.integers(1, 9), min_size=1, max_size=8),
       st.integers(3, 9))
def test_what_is_learned_is_what_the_equations_say(words, wanted):
    """By sums over all segmentations: two rounds of EM, then a fifth of the smallest losses is dropped."""
    alphabet = ["a", "b", "c"]
    pieces, counts = unigram._candidates(words, alphabet, 10 * wanted)
    p = dict(zip(pieces, np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum()))
    while True:
        for _ in range(2):
            counts = np.array(expected(words, p))
            p = dict(zip(p, np.maximum(counts, 0.5) / np.maximum(counts, 0.5).sum()))
        if len(p) <= wanted:
            break
        other = {piece: likelihood(piece, p | {piece: 0.0}) for piece in p if len(piece) > 1}
        loss = {piece: round(count * np.log(p[piece] / other[piece]), 6) if len(piece) > 1 else np.inf
                for piece, count in zip(p, counts)}
        kept = sorted(p, key=lambda piece: (-loss[piece], piece))[:max(wanted, int(0.8 * len(p)))]
        p = {piece: p[piece] for piece in p if piece in kept}
    found, log_p = unigram.learned(words, alphabet, wanted)
    assert found == list(p)
    np.testing.assert_allclose(np.exp(log_p), list(p.values()), rtol=1e-9)


def test_a_fifth_is_dropped_after_every_two_rounds(monkeypatch):
    sizes, probabilities = [], unigram._probabilities
    monkeypatch.setattr(unigram, "_probabilities", lambda counts, kept: sizes.append(len(kept)) or probabilities(
        counts, kept))
    unigram.learned(WORDS, ["a", "b", "c"], 4)
    assert sizes == [13, 13, 13, 10, 10, 8, 8, 6, 6, 4, 4]           # int(0.8 n), at least 4


TEXTS = ["the cat sat on the mat", "the bat sat on the cat", "a hat, a mat: that is flat!", "hats and cats"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_unigram(TEXTS, 45)


def test_the_ids_are_xlm_rs(tokenizer):
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    assert tokens[:4] == ["<s>", "<pad>", "</s>", "<unk>"] and tokens[-1] == "<mask>" and len(tokens) == 45
    assert special_ids(tokenizer).mask == 44
    model = json.loads(tokenizer.to_str())["model"]
    assert model["vocab"][:4] + model["vocab"][-1:] == [[token, 0.0] for token in tokens[:4] + tokens[-1:]]
    assert (model["unk_id"], model["byte_fallback"]) == (3, False)
    assert {"▁the", "▁", "h", "!"} < set(tokens)


def test_a_text_is_cut_into_the_likeliest_pieces(tokenizer):
    scores = dict(json.loads(tokenizer.to_str())["model"]["vocab"][4:-1])
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    for word in ("▁the", "▁cats", "▁hatbat", "▁flatmat", "▁a"):
        best = max((cut for cut in segmentations(word) if set(cut) <= scores.keys()),
                   key=lambda cut: sum(scores[piece] for piece in cut))
        assert tokenizer.encode(word[1:], add_special_tokens=False).tokens == best


def test_spaces_and_forms_of_letters_do_not_matter_and_a_strange_character_is_unknown(tokenizer):
    one, two = encode(tokenizer, ["the  ﬂat\tcat ", "the flat cat"], 30)
    assert one.tolist() == two.tolist()
    pieces = [tokenizer.id_to_token(i) for i in encode(tokenizer, ["žž the"], 9)[0]]
    assert pieces == ["<s>", "▁", "<unk>", "▁the", "</s>"]
    assert tokenizer.decode(encode(tokenizer, ["the cat sat"], 30)[0].tolist()) == "the cat sat"


def test_the_rarest_characters_become_unknown_and_nothing_is_learned_from_their_words():
    common = " ".join("abcdefghijklmnopqrstuvwxyz0123456789éèà")                                # and ▁: 40 stay
    tokenizer = train_unigram([common * 9, "qqż qqż qqż bb bb"], 300)
    assert tokenizer.token_to_id("é") and not tokenizer.token_to_id("ż") and not tokenizer.token_to_id("qq")
    assert train_unigram(["abcdefghijklmnopqrstuvwxyz0123456789éèàùçö"], 300).get_vocab_size() == 45   # no word is left


def test_a_vocabulary_that_is_too_small_and_texts_without_words():
    needed = 5 + len(set("▁" + "".join(TEXTS)) - {" "})
    with pytest.raises(WrongUsage, match=f"need a vocabulary of at least {needed} for the special tokens and single "
                                         f"characters of these texts; got {needed - 1}$"):
        train_unigram(TEXTS, needed - 1)
    assert train_unigram(TEXTS, needed).get_vocab_size() == needed
    for texts in ([], ["", " \n"]):
        with pytest.raises(WrongUsage, match="need texts with at least one word to train a tokenizer; got none$"):
            train_unigram(texts, 100)
