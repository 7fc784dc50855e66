"""Word vectors: GloVe's text format, and the nearest words by cosine."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data.tokenizer import KINDS, special_ids
from tinydistill.data.word_vectors import WordVectors, read
from tinydistill.errors import WrongUsage


def test_the_nearest_by_angle_not_by_length():
    vectors = WordVectors(["east", "far-east", "north", "north-east", "west", "nowhere"],
                          np.array([[1.0, 0], [9, 0.1], [0, 1], [1, 1], [-2, 0], [0, 0]]))
    assert vectors.neighbours("east", 2) == ["far-east", "north-east"]
    assert vectors.neighbours("east", 9) == ["far-east", "north-east", "north", "west"]
    assert vectors.neighbours("south", 2) == vectors.neighbours("nowhere", 2) == []


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 12))
def test_neighbours_are_those_of_the_formula(seed, count, k):
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    cosine = [vectors[0] @ v / np.linalg.norm(vectors[0]) / np.linalg.norm(v) for v in vectors]
    expected = sorted(range(1, count), key=lambda i: -cosine[i])[:k]
    assert WordVectors(map(str, range(count)), vectors).neighbours("0", k) == [str(i) for i in expected]


def test_a_word_that_comes_twice_keeps_its_first_vector():
    vectors = WordVectors(["a", "b", "a"], np.array([[1.0, 0], [1, 1], [0, 1]]))
    assert vectors.neighbours("b", 5) == ["a"] and vectors.neighbours("a", 5) == ["b"]


def test_a_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_bytes("the 1 0\n. . 0.5 0.5\n<unk> 9 9\nÜber 1 -0.25 \r\nlast 0 1\n".encode())
    vectors = read(path)
    assert vectors.words == ["the", ". .", "Über", "last"] and vectors.unit.dtype == np.float32
    assert vectors.neighbours("the", 1) == ["Über"]
    assert read(path, most=2).words == ["the", ". ."]


@pytest.mark.parametrize("text, message", [
    (b"", ", line 1: need a word and its vector, the file is empty"),
    (b"the\n", ", line 1: need a word and its numbers, parted by spaces; got b'the\\n'"),
    (b"the 1 2\nof 1\n", ", line 2: need a word and 2 numbers, parted by spaces; got b'of 1\\n'"),
    (b"the 1 2\nof 1 x\n", ", line 2: need a word and 2 numbers, parted by spaces; got b'of 1 x\\n'"),
    (b"the 1 2\nof 1 nan\n", ", line 2: need a word and 2 numbers, parted by spaces; got b'of 1 nan\\n'"),
    (b"the 1 2\n 1 2\n", ", line 2: need a word and 2 numbers, parted by spaces; got b' 1 2\\n'"),
    (b"caf\xe9 1 2\n", ", line 1: need a word and its numbers, parted by spaces; got b'caf\\xe9 1 2\\n'"),
    (b"the 1 2\n\nof 1 2\n", ", line 2: need a word and 2 numbers, parted by spaces; got b'\\n'"),
])
def test_what_is_wrong_is_said_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "glove.txt"
    path.write_bytes(text)
    with pytest.raises(WrongUsage) as caught:
        read(path)
    assert str(caught.value) == f"{path}{message}"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(WrongUsage, match="cannot read .*nowhere: No such file or directory$"):
        read(tmp_path / "nowhere")


# ---------------------------------------------------------------- for the words of a tokenizer

SPACE = "\u2581"                                    # XLM-R's sign for a space, and a piece of its own
TOKENIZERS = {kind: train(["the cats see the dog, the dog sees cats"] * 9, 300) for kind, train in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_piece_that_is_a_whole_word_has_its_vector_and_no_other_piece_has_one(kind):
    """Whole is what begins a word and ends it; unknown words, parts of words and special tokens are none."""
    tokenizer = TOKENIZERS[kind]
    words = ["the", "dog", "giraffe", "##e", "e" * 30, *(piece for piece in tokenizer.get_vocab() if piece != SPACE)]
    vectors = 1.0 + np.arange(3 * len(words)).reshape(-1, 3)
    found = WordVectors(words, vectors).table(tokenizer, tokenizer.get_vocab_size() + 2, 3)
    assert found.shape == (tokenizer.get_vocab_size() + 2, 3) and found.dtype == np.float32
    for word, vector in zip(("the", "dog"), vectors):
        (piece,) = tokenizer.encode(" " + word, add_special_tokens=False).ids
        np.testing.assert_array_equal(found[piece], vector)
    for number in (*vars(special_ids(tokenizer)).values(), -1, -2):
        assert np.isnan(found[number]).all()
    for number in np.flatnonzero(~np.isnan(found).any(axis=1)):
        piece = tokenizer.id_to_token(int(number))
        assert tokenizer.encode(" " + piece.lstrip("\u0120" + SPACE), add_special_tokens=False).ids == [number]


def test_parts_of_words_have_no_vector():
    tokenizer = TOKENIZERS["wordpiece"]
    inner = [number for piece, number in tokenizer.get_vocab().items() if piece.startswith("##")]
    words = ["the", *(piece for piece in tokenizer.get_vocab() if piece.startswith("##"))]
    found = WordVectors(words, np.ones((len(words), 2))).table(tokenizer, tokenizer.get_vocab_size(), 2)
    assert len(inner) > 3 and np.isnan(found[inner]).all() and np.isnan(found).any(axis=1).sum() == len(found) - 1


def test_of_two_words_with_one_piece_the_first_has_its_vector():
    tokenizer = TOKENIZERS["wordpiece"]
    found = WordVectors(["The", "the", "dog", "dog"], np.arange(8.0).reshape(4, 2)).table(
        tokenizer, tokenizer.get_vocab_size(), 2)
    np.testing.assert_array_equal(found[[tokenizer.token_to_id(word) for word in ("the", "dog")]], [[0, 1], [4, 5]])


def test_vectors_of_another_width_are_one_line():
    with pytest.raises(WrongUsage, match="^need word vectors of 4 numbers, as the student's words have; these have 3$"):
        WordVectors(["the"], np.ones((1, 3))).table(TOKENIZERS["wordpiece"], 300, 4)
