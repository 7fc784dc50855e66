"""TinyBERT's augmentation: what is asked, what is exchanged, how often, and how pairs are written."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data.tinybert import OTHER_TRIALS, SAMPLES, STOP_WORDS, TRIALS, Proposals, official, paper
from tinydistill.data.tokenizer import special_ids, train_wordpiece
from tinydistill.data.word_vectors import WordVectors

WORDS = "red green blue cat dog house sees likes".split()
TOKENIZER = train_wordpiece([" ".join(WORDS)] * 4 + ["the the . a x y z ##"], 120)
SPECIAL = special_ids(TOKENIZER)
LONG = "catdog"                                     # two pieces
VECTORS = WordVectors([LONG, "lion", "wolf", "stone", "dog", "catd"],
                      np.array([[1.0, 0], [1, 0.1], [1, 0.3], [-1, 0], [-1, -5], [-1, 0.1]]))
ID = {word: TOKENIZER.token_to_id(word) for word in WORDS}


CONTINUING = next(i for i in range(TOKENIZER.get_vocab_size()) if TOKENIZER.id_to_token(i).startswith("##"))


def pieces(word):
    return TOKENIZER.encode(word, add_special_tokens=False).tokens


def test_the_vocabulary_is_as_the_tests_need_it():
    assert all(ID.values()) and len(pieces(LONG)) > 1 and len(pieces("catgod")) > 1 and len(pieces("catd")) == 2 and pieces("the") != ["[UNK]"]


class Predictor:
    """Favours `best` ids in their order, whatever is asked, and remembers what was."""

    def __init__(self, best):
        self.logits = np.zeros(TOKENIZER.get_vocab_size())
        self.logits[list(best)] = np.arange(len(best), 0, -1)
        self.asked = []

    def __call__(self, queries):
        assert len(queries) > 0
        self.asked += [([TOKENIZER.id_to_token(int(i)) for i in ids], position) for ids, position in queries]
        return np.tile(self.logits, (len(queries), 1))


def proposals(*best, vectors=VECTORS, count=2, **settings):
    return Proposals(TOKENIZER, Predictor([ID.get(w, w) for w in best]), vectors, count, **settings)


# ---------------------------------------------------------------- as published code does it

def test_what_the_model_is_asked():
    ask = proposals("green", "blue")
    official(("The red catdog.",), ask, trials=1)
    (tokens, position), = ask.predict.asked                     # `the` is a stop word, `.` none, catdog has many pieces
    the, catdog, dot = pieces("the"), pieces(LONG), pieces(".")
    assert tokens == ["[CLS]", *the, "[MASK]", *catdog, *dot, "[SEP]", *the, "red", *catdog, *dot, "[SEP]"]
    assert position == 1 + len(the) and tokens[position] == "[MASK]"


def test_every_word_is_asked_for_in_the_unchanged_text():
    ask = proposals("green", "blue")
    official(("red cat red",), ask, trials=5, chance=1.0)
    assert [tokens[1:4] for tokens, _ in ask.predict.asked] == [
        ["[MASK]", "cat", "red"], ["red", "[MASK]", "red"], ["red", "cat", "[MASK]"]]
    assert all(tokens[5:8] == ["red", "cat", "red"] for tokens, _ in ask.predict.asked)


def exchanged(text, ask, **settings):
    """The words at each place over many trials, without the text itself."""
    rows = official((text,), ask, trials=200, chance=1.0, **settings)
    assert rows[0] == (text,)
    return [set(column) for column in zip(*(row.split(" ") for row, in rows[1:]))]


def test_candidates():
    assert exchanged("red", proposals("green", "blue", "dog")) == [{"green", "blue"}]           # K = 2
    assert exchanged("red", proposals("green", CONTINUING, "dog")) == [{"green"}]               # dropped, not replaced
    assert exchanged("catdog", proposals("green")) == [{"lion", "wolf"}]
    assert exchanged("catd", proposals("green", count=1)) == [{"stone"}]                        # of two pieces
    assert official(("catdog",), proposals("green", vectors=None), trials=9, chance=1.0) == [("catdog",)]
    assert official(("catgod",), proposals("green"), trials=9, chance=1.0) == [("catgod",)]     # it has no vector
    assert official(("red",), proposals(CONTINUING, count=1), trials=9, chance=1.0) == [("red",)]


def test_stop_words_and_words_with_other_letters_stay():
    assert official(("the and very",), proposals("green"), trials=9, chance=1.0) == [("the and very",)]
    assert official(("r2d2 a-b 7",), proposals("green", count=1), trials=9, chance=1.0)[1:] == [("r2d2 a - green 7",)]
    assert exchanged("the red", proposals("green"), stop_words={"red"})[1] == {"red"}
    assert "the" in STOP_WORDS and "cat" not in STOP_WORDS and all(word == word.lower() for word in STOP_WORDS)


def test_a_capital_is_kept_where_the_tokenizer_keeps_it():
    cased = train_wordpiece(["C xatdog"], 60, lowercase=False)
    vectors = WordVectors(["Catdog", "lion", "wolf"], np.array([[1.0, 0], [1, 0.1], [1, 0.3]]))
    ask = Proposals(cased, Predictor([]), vectors, 2)
    assert {row for row, in official(("Catdog",), ask, trials=50, chance=1.0)} == {"Catdog", "Lion", "Wolf"}


def test_places_beyond_the_longest_sequence_are_not_asked_for():
    ask = proposals("green", longest=4)
    rows = official(("red cat dog house",), ask, trials=50, chance=1.0)
    assert [position for _, position in ask.predict.asked] == [1, 2, 3]
    assert all(len(tokens) == 4 for tokens, _ in ask.predict.asked)
    assert all(row.endswith(" house") for row, in rows)


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_at_most_so_many_and_none_twice(trials, seed):
    rows = official(("red cat sees the dog",), proposals("green", "blue"), trials, seed=seed)
    assert rows[0] == ("red cat sees the dog",) and 1 <= len(rows) <= trials + 1 and len(set(rows)) == len(rows)


def test_words_are_exchanged_with_their_chance_and_candidates_are_alike():
    """One word a text, so that a trial is seen if it is not dropped: 1 - 0.6^N of texts (five standard deviations)."""
    n = 2000
    found = Counter(len(official((f"red {i}",), proposals("green", count=1), trials=2)) for i in range(n))
    p = 1 - 0.6 ** 2
    assert found.keys() == {1, 2} and abs(found[2] - n * p) < 5 * math.sqrt(n * p * (1 - p))
    rows = [official((f"red {i}",), proposals("green", "blue"), trials=1, chance=1.0)[1] for i in range(n)]
    assert abs(sum(row.startswith("green") for row, in rows) - n / 2) < 5 * math.sqrt(n / 4)


def test_a_pair_is_varied_column_by_column_in_one_row():
    rows = official(("red cat", "blue dog"), proposals("green", "house"), trials=3, chance=1.0)
    n = len({a for a, _ in rows})
    first, second = rows[:n], rows[n:]
    assert n > 1 and {b for _, b in first} == {"blue dog"} and {a for a, _ in second} == {first[-1][0]}
    assert second[0] == first[-1] == (first[-1][0], "blue dog") and len({b for _, b in second}) == len(second) > 1


def test_how_many_trials_published_code_makes():
    assert TRIALS == {"cola": 30, "mnli": 10, "mrpc": 30, "sst-2": 20, "sts-b": 30, "qqp": 10, "qnli": 20, "rte": 30}
    assert SAMPLES == 20 and OTHER_TRIALS == 30                 # the paper's; the code's for other tasks
    assert (Proposals(TOKENIZER, None).count, Proposals(TOKENIZER, None).longest) == (15, 512)


# ---------------------------------------------------------------- as printed

def test_the_paper_asks_for_each_sample_with_what_it_has_become():
    """With chance 0 every word of one piece stays [MASK]; with chance 1 the next word sees what the last became."""
    ask = proposals("green", count=1)
    assert paper(("red catdog dog",), ask, samples=2, chance=-1.0) == [("[MASK] catdog [MASK]",)] * 2
    assert len(ask.predict.asked) == 4 and ask.predict.asked[3][0][-2:] == ["[MASK]", "[SEP]"]
    assert all("[SEP]" not in tokens[:-1] and tokens[0] == "[CLS]" for tokens, _ in ask.predict.asked)
    ask = proposals("green", count=1)
    assert paper(("red cat dog",), ask, samples=1, chance=1.0) == [("green green green",)]
    assert [tokens[1:-1] for tokens, _ in ask.predict.asked] == [
        ["[MASK]", "cat", "dog"], ["green", "[MASK]", "dog"], ["green", "green", "[MASK]"]]
    assert [position for _, position in ask.predict.asked] == [1, 2, 3]


def test_the_papers_candidates_are_words():
    ask = proposals(CONTINUING, SPECIAL.mask, SPECIAL.unk, "green", "blue", "dog")
    assert {row for row, in paper(("red",), ask, samples=60, chance=1.0)} == {"green", "blue"}
    assert {row for row, in paper(("catdog",), ask, samples=60, chance=1.0)} == {"lion", "wolf"}
    assert paper(("catd",), proposals("green", count=1), samples=1, chance=1.0) == [("stone",)]
    assert paper(("catdog",), proposals("green", vectors=None), samples=2, chance=1.0) == [("catdog",)] * 2
    every = proposals("green", count=10**6)
    words = {TOKENIZER.id_to_token(i) for i in range(5, TOKENIZER.get_vocab_size())}
    found = {row for row, in paper(("red",), every, samples=900, chance=1.0)}
    assert len(found) > 20 and found <= {word for word in words if not word.startswith("##")}


def test_the_paper_exchanges_with_its_chance():
    """Each word of each sample with p_t (five standard deviations)."""
    rows = paper(("red cat dog house sees likes",), proposals("green"), samples=500)
    n, found = 3000, Counter(word for row, in rows for word in row.split())
    assert abs(found["[MASK]"] - 0.6 * n) < 5 * math.sqrt(n * 0.24) and len(rows) == 500 and found.total() == n
    assert abs(found["green"] - 0.2 * n) < 5 * math.sqrt(n * 0.16)                      # the first of two candidates


def test_the_paper_takes_a_pair_as_one_sequence():
    ask = proposals("green", count=1)
    assert paper(("red cat", "dog catdog"), ask, samples=1, chance=1.0) == [("green green", "green lion")]
    assert ask.predict.asked[2] == (["[CLS]", "green", "green", "[SEP]", "[MASK]", *pieces(LONG), "[SEP]"], 4)
    assert len(paper(("", "red"), ask, samples=2)) == 2 and paper(("", ""), ask, samples=1) == [("", "")]


def test_the_paper_leaves_what_is_beyond_the_longest_sequence():
    ask = proposals("green", count=1, longest=3)
    assert paper(("red cat dog",), ask, samples=1, chance=1.0) == [("green green dog",)]
    assert all(len(tokens) <= 3 for tokens, _ in ask.predict.asked)


@pytest.mark.parametrize("augment", [lambda *row, **at: official(row, proposals("green", "blue"), 6, **at),
                                     lambda *row, **at: paper(row, proposals("green", "blue"), 6, **at)])
def test_seed_and_text_decide(augment):
    text = "red cat dog house sees"
    assert augment(text) == augment(text) != augment(text, seed=1)
    a, b = augment(text), augment(text, text)
    assert {y for _, y in b} != {x for x, in a}                 # the second text is not varied as the first
    assert Counter(x for x, _ in b) != Counter(y for _, y in b)
