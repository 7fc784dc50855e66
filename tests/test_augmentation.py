"""What augmentation asks of models: the same answers as a model gives to each query alone."""

import numpy as np
import pytest

from small_bert import LABELS, VOCABULARY, build
from tinydistill.data.augmentation import predictor, tagger, words
from tinydistill.data.tokenizer import encode_words, special_ids, train_wordpiece
from tinydistill.features import Batch, Needs, Pass


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = train_wordpiece(["the cat sat on the mat"] * 3, VOCABULARY)
    assert tokenizer.get_vocab_size() <= VOCABULARY
    return tokenizer


def test_words_are_parted_at_spaces_and_around_punctuation(tokenizer):
    assert words(tokenizer, "The cat's  mat-\u200b\u00c9") == ["the", "cat", "'", "s", "mat", "-", "e"]
    cased = train_wordpiece(["The cat"], 40, lowercase=False)
    assert words(cased, "The Cat.") == ["The", "Cat", "."] and words(cased, "") == []
    cased.normalizer = None
    assert words(cased, "The Cat.") == ["The", "Cat", "."]


def alone(model, ids, types):
    """The logits of one unpadded sequence, at every place."""
    batch = Batch(ids=np.array([ids]), mask=np.ones((1, len(ids)), bool), token_types=np.array([types]))
    return model(batch, Pass(Needs.of(logits=True))).logits.array


def test_predictions_are_those_of_each_query_alone(tokenizer):
    """40 queries: more than one batch, out of the order of their lengths. Types turn to 1 after the first [SEP]."""
    model, special, rng = build("masked-lm"), special_ids(tokenizer), np.random.default_rng(0)
    queries, types = [], []
    for n in range(40):
        a, b = rng.integers(1, 5), rng.integers(0, 4)
        row = [special.cls, *rng.integers(5, VOCABULARY, a), special.sep]
        row += [*rng.integers(5, VOCABULARY, b), special.sep] if b else []
        queries.append((row, int(rng.integers(len(row)))))
        types.append([0] * (a + 2) + [1] * (len(row) - a - 2))
    predicted = predictor(model, tokenizer)(queries)
    assert predicted.shape == (40, VOCABULARY)
    for (row, position), its_types, logits in zip(queries, types, predicted):
        np.testing.assert_allclose(logits, alone(model, row, its_types)[position], rtol=1e-5, atol=1e-5)  # float32 out


def test_tags_are_those_of_first_pieces(tokenizer):
    model = build("token", seed=1)
    sentences = [["cat", "catmat", "on"], ["mat"], ["the"] * 12]            # the last is longer than 11 positions
    tags = tagger(model, tokenizer)(sentences)
    assert [len(row) for row in tags] == [3, 1, 12] and tags[2][9:] == [""] * 3 and "" not in tags[2][:9]
    for words_, row in zip(sentences, tags):
        ids, begins = encode_words(tokenizer, [words_], 11)
        best = alone(model, ids[0], [0] * len(ids[0])).argmax(-1)
        assert row[:9] == [LABELS[best[place]] for place in np.flatnonzero(begins[0] >= 0)]
    assert len({tag for row in tags for tag in row}) > 2                    # the model does tell words apart
