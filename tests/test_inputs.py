"""What training feeds on: pairs that keep whether the second follows, tokens hidden as named, held-out rows that stay."""

from dataclasses import replace

import numpy as np
import pytest

from tinydistill.data import inputs, pairs
from tinydistill.data.masking import frequency_weights, mask_by_frequency, mask_counted_official, mask_tokens
from tinydistill.data.tokenizer import special_ids, train_wordpiece
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.methods.stage import Recipe

NOUNS = "value name file row reader line table key index number object method".split()
DOCUMENTS = [[f"the {noun} of the {other} is the first" for other in NOUNS[i:i + 5]] for i, noun in enumerate(NOUNS)]
TEXTS = [text for document in DOCUMENTS for text in document]
RECIPE = Recipe(steps=4, batch_size=6, learning_rate=0.1, max_length=24)
FIELDS = ("ids", "mask", "token_types", "labels", "positions", "rows", "indices", "next_sentence")


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TEXTS, 90)


@pytest.fixture
def special(tokenizer):
    return special_ids(tokenizer)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) if getattr(b, name) is not None
               else getattr(a, name) is None for name in FIELDS)


# ---------------------------------------------------------------- pairs

def test_pairs_are_those_of_the_documents(tokenizer, special):
    """Nothing is lost on the way into batches, and 0 says that the second follows."""
    batches = inputs.paired(DOCUMENTS, tokenizer, RECIPE, seed=5)
    ids = [[tokenizer.encode(text, add_special_tokens=False).ids for text in document] for document in DOCUMENTS]
    packed = pairs.pack(ids, special, RECIPE.max_length, seed=5)
    assert set(packed.is_next) == {True, False} and len(batches.sequences) == len(packed.sequences)
    seen = []
    for indices, batch in batches.once():
        assert batch.ids.shape[1] <= RECIPE.max_length
        for i, ids, mask, types, label in zip(indices, batch.ids, batch.mask, batch.token_types, batch.labels):
            assert ids[mask].tolist() == packed.sequences[i].tolist() and (ids[~mask] == special.pad).all()
            assert types[mask].tolist() == packed.token_types[i].tolist() and (types[~mask] == 0).all()
            first = ids.tolist().index(special.sep)
            assert (types[:first + 1] == 0).all() and (types[first + 1:][mask[first + 1:]] == 1).all()
            assert label == (0 if packed.is_next[i] else 1)
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(packed.sequences)))


def test_pairs_differ_by_seed(tokenizer):
    one, same_seed, other = (inputs.paired(DOCUMENTS, tokenizer, RECIPE, seed=seed) for seed in (5, 5, 6))
    assert all(map(np.array_equal, one.sequences, same_seed.sequences))
    assert [row.tolist() for row in one.sequences] != [row.tolist() for row in other.sequences]


def test_masking_keeps_whether_the_second_follows(tokenizer):
    batches = inputs.paired(DOCUMENTS, tokenizer, RECIPE, seed=5)
    batch = batches.at(0)
    for name in inputs.MASKINGS:
        hidden = inputs.masked(batch, inputs.masking(name, tokenizer, batches), 0.3, 0, 0)
        assert np.array_equal(hidden.next_sentence, batch.labels) and hidden.next_sentence.shape == (len(batch),)
        assert np.array_equal(hidden.token_types, batch.token_types) and set(hidden.token_types.ravel()) == {0, 1}
        everywhere = inputs.read_everywhere(hidden)
        assert np.array_equal(everywhere.next_sentence, batch.labels)
        parts = hidden.split(3)
        assert np.array_equal(np.concatenate([part.next_sentence for part in parts]), batch.labels)


def test_rows_of_text_follow_nothing(tokenizer):
    batches = inputs.plain(TEXTS, tokenizer, RECIPE, seed=0)
    hidden = inputs.masked(batches.at(0), inputs.masking("bert", tokenizer, batches), 0.3, 0, 0)
    assert hidden.next_sentence is None and hidden.token_types is None


# ---------------------------------------------------------------- masking by name

def expected(name, batch, tokenizer, batches, rate, seed, step):
    """(corrupted ids, labels) of the function that the name stands for."""
    special, size, given = special_ids(tokenizer), tokenizer.get_vocab_size(), (batch.ids, batch.mask, batch.rows)
    if name == "bert":
        return mask_tokens(*given, special, size, rate=rate, seed=seed, step=step)
    if name in ("counted", "one"):
        return mask_counted_official(*given, special, size, rate=rate if name == "counted" else 0.0, seed=seed, step=step)
    counts = np.zeros(size)
    for row in batches.sequences:
        for token in row:
            counts[token] += 1
    return mask_by_frequency(*given, special, frequency_weights(counts, special), rate=rate, seed=seed, step=step)


@pytest.mark.parametrize("pair", [False, True], ids=["rows", "pairs"])
@pytest.mark.parametrize("name", inputs.MASKINGS)
def test_each_name_is_the_function_it_says(tokenizer, name, pair):
    read, rows = (inputs.paired, DOCUMENTS) if pair else (inputs.plain, TEXTS)
    batches = read(rows, tokenizer, RECIPE, seed=0)
    choose, batch = inputs.masking(name, tokenizer, batches), batches.at(1)
    hidden = inputs.masked(batch, choose, 0.4, 7, 3)
    ids, labels = expected(name, batch, tokenizer, batches, 0.4, 7, 3)
    assert np.array_equal(hidden.ids, ids) and np.array_equal(hidden.labels, labels)
    assert np.array_equal(hidden.positions, np.flatnonzero(labels.ravel() != IGNORED)) and len(hidden.positions) > 3
    others = [expected(other, batch, tokenizer, batches, 0.4, 7, 3)[1] for other in inputs.MASKINGS if other != name]
    draws = ((0.4, 8, 3), (0.4, 7, 4), *[(0.1, 7, 3)] * (name != "one"))     # "one" is one token at any rate
    others += [expected(name, batch, tokenizer, batches, *draw)[1] for draw in draws]
    assert not any(np.array_equal(labels, other) for other in others)


def test_a_name_that_there_is_not_is_refused(tokenizer):
    with pytest.raises(WrongUsage, match="^need a masking out of bert, counted, one, frequency; got 'span'$"):
        inputs.masking("span", tokenizer, inputs.plain(TEXTS, tokenizer, RECIPE, seed=0))


def test_frequencies_are_those_of_the_batches_own_sequences(tokenizer):
    """Of two words in a row, the one that is rare in its corpus is hidden: the other way round in the other corpus."""
    for rare, frequent in (("name", "object"), ("object", "name")):
        batches = inputs.plain([frequent] * 400 + ["object name"] * 2, tokenizer, RECIPE, seed=0)
        choose, batch = inputs.masking("frequency", tokenizer, batches), batches.batch(np.array([400, 401]))
        hidden = np.concatenate([inputs.masked(batch, choose, 0.1, seed, 0).labels for seed in range(60)])
        counts = {word: (hidden == tokenizer.token_to_id(word)).sum() for word in (rare, frequent)}
        assert sum(counts.values()) == 60           # ceil(0.1 * 8) in each batch
        assert counts[rare] > 54                    # 0.976 of them, by (402 / 2)^-0.7


def test_a_task_gives_its_labels_and_the_tokens_of_both_texts(tokenizer, special):
    """Through the task's own `encode`, here of two texts a row."""
    class Examples:
        def encode(self, tokenizer, max_length):
            found = [tokenizer.encode(*texts) for texts in zip(TEXTS, TEXTS[1:])]
            return [x.ids[:max_length] for x in found], [i % 3 for i in range(len(found))], [
                x.type_ids[:max_length] for x in found]
    batches = inputs.labelled(Examples(), tokenizer, RECIPE, seed=0)
    sequences, labels, types = Examples().encode(tokenizer, RECIPE.max_length)
    for indices, batch in batches.once():
        for i, ids, mask, kinds, label in zip(indices, batch.ids, batch.mask, batch.token_types, batch.labels):
            assert (ids[mask].tolist(), kinds[mask].tolist(), label) == (sequences[i], types[i], labels[i])
            assert (ids[~mask] == special.pad).all()
    assert batches.batch_size == RECIPE.batch_size and not np.array_equal(
        batches.at(0).indices, inputs.labelled(Examples(), tokenizer, RECIPE, seed=1).at(0).indices)


def test_read_everywhere_is_at_every_real_token(tokenizer):
    batches = inputs.plain(TEXTS, tokenizer, RECIPE, seed=0)
    batch = inputs.masked(batches.at(0), inputs.masking("bert", tokenizer, batches), 0.3, 0, 0)
    everywhere = inputs.read_everywhere(batch)
    assert np.array_equal(everywhere.positions, np.flatnonzero(batch.mask.ravel()))
    assert same(replace(everywhere, positions=batch.positions), batch)


# ---------------------------------------------------------------- held out

@pytest.mark.parametrize("name", inputs.MASKINGS)
def test_a_held_out_set_is_the_same_each_time_and_has_every_row_once(tokenizer, name):
    batches = inputs.paired(DOCUMENTS, tokenizer, RECIPE, seed=5)
    choose = inputs.masking(name, tokenizer, batches)
    batches.at(7)                                   # whatever was read before
    first, second = (list(inputs.masked_once(batches, choose, 0.3, 0)) for _ in range(2))
    assert all(map(same, first, second)) and len(first) == len(batches) > 2
    assert sorted(i for batch in first for i in batch.indices) == list(range(len(batches.sequences)))
    other = list(inputs.masked_once(batches, choose, 0.3, 1))
    assert not all(map(same, first, other))
    places = [np.flatnonzero(batch.labels[:, 1:9].ravel() != IGNORED).tolist() for batch in first[:2]]
    assert places[0] != places[1]                   # each batch has its own draw
