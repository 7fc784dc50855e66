"""From texts to the global batch of a step: what the three kinds of training feed on."""

from dataclasses import replace

import numpy as np

from tinydistill.data import pairs
from tinydistill.data.batches import Batches
from tinydistill.data.masking import TINYBERT_RATE, frequency_weights, mask_by_frequency, mask_counted_official, mask_tokens
from tinydistill.data.tokenizer import encode, pair_format, special_ids
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED


def plain(texts, tokenizer, recipe, seed):
    """Batches of texts as they are: what a distillation without labels reads."""
    return Batches(encode(tokenizer, texts, recipe.max_length), recipe.batch_size, seed,
                   pad_id=special_ids(tokenizer).pad)


def paired(documents, tokenizer, recipe, seed):
    """Batches of sentence pairs packed from documents, lists of sentences; labels: 0 where the second follows."""
    special = special_ids(tokenizer)
    ids = [[tokenizer.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
           for sentences in documents]
    packed = pairs.pack(ids, special, recipe.max_length, seed=seed, join=pair_format(tokenizer))
    return Batches(packed.sequences, recipe.batch_size, seed, token_types=packed.token_types,
                   labels=1 - packed.is_next.astype(np.int64), pad_id=special.pad)


def labelled(examples, tokenizer, recipe, seed):
    """Batches of a task's examples with their labels."""
    sequences, labels, token_types = examples.encode(tokenizer, recipe.max_length)
    return Batches(sequences, recipe.batch_size, seed, token_types=token_types, labels=labels,
                   pad_id=special_ids(tokenizer).pad)


MASKINGS = ("bert", "counted", "one", "frequency")


def masking(name, tokenizer, batches):
    """choose(ids, mask, rows, rate, seed, step) -> (corrupted ids, labels): a way to hide tokens, by name.

    "bert": each token for itself; "counted": BERT's published fixed count a row; "one": TinyBERT's, one token
    a row whatever the rate; "frequency": DistilBERT's, rare tokens of `batches` more often. Equations: `data/masking.py`.
    Raises: WrongUsage for another name.
    """
    return choosing(name, special_ids(tokenizer), tokenizer.get_vocab_size(), batches)


def choosing(name, special, size, batches):
    """The same for ids below `size` with these `SpecialIds`."""
    if name == "frequency":
        counts = np.bincount(np.concatenate(batches.sequences), minlength=size)
        weights = frequency_weights(counts, special)
        return lambda ids, mask, rows, *draw: mask_by_frequency(ids, mask, rows, special, weights, *draw)
    if name in ("counted", "one"):
        return lambda ids, mask, rows, rate, seed, step: mask_counted_official(
            ids, mask, rows, special, size, TINYBERT_RATE if name == "one" else rate, seed=seed, step=step)
    if name == "bert":
        return lambda ids, mask, rows, *draw: mask_tokens(ids, mask, rows, special, size, *draw)
    raise WrongUsage(f"need a masking out of {', '.join(MASKINGS)}; got {name!r}")


def masked(batch, choose, rate, seed, step):
    """The batch with tokens hidden as `choose` has it, and the places where they are to be predicted.

    A batch of pairs keeps whether the second follows in `next_sentence`.
    """
    corrupted, labels = choose(batch.ids, batch.mask, batch.rows, rate, seed, step)
    return replace(batch, ids=corrupted, labels=labels, positions=np.flatnonzero(labels != IGNORED),
                   next_sentence=batch.labels)


def read_everywhere(batch):
    """The batch with a head that reads every real token, not only the hidden ones (DistilBERT's soft labels)."""
    return replace(batch, positions=np.flatnonzero(batch.mask))


def masked_once(batches, choose, rate, seed):
    """Every row of `batches` once, masked in one fixed way: a held-out set that is the same for every model."""
    for i, (_, batch) in enumerate(batches.once()):
        yield masked(batch, choose, rate, seed, i)


def frequency_loss(batches, unseen, size):
    """Mean of -log p(w) over the labels w of masked batches, with p the words' frequencies in `batches`, in nats.

    p(w) = (1 + how often w is there) / (V + how many there are): what a model that reads no context comes to.
    """
    counts = 1 + np.bincount(np.concatenate(batches.sequences), minlength=size)
    labels = np.concatenate([batch.labels[batch.labels != IGNORED] for batch in unseen])
    return float(np.log(counts.sum()) - np.log(counts[labels]).mean())
