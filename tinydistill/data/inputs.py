"""From texts to the global batch of a step: what the three kinds of training feed on."""

from dataclasses import replace

import numpy as np

from tinydistill.data.batches import Batches
from tinydistill.data.masking import mask_tokens
from tinydistill.data.tokenizer import encode, special_ids
from tinydistill.features import IGNORED


def plain(texts, tokenizer, recipe, seed):
    """Batches of texts as they are: what a distillation without labels reads."""
    return Batches(encode(tokenizer, texts, recipe.max_length), recipe.batch_size, seed,
                   pad_id=special_ids(tokenizer).pad)


def labelled(examples, tokenizer, recipe, seed):
    """Batches of a task's examples with their labels."""
    sequences, labels = examples.encode(tokenizer, recipe.max_length)
    return Batches(sequences, recipe.batch_size, seed, labels=labels, pad_id=special_ids(tokenizer).pad)


def masked(batch, tokenizer, rate, seed, step):
    """The batch with tokens hidden as BERT hides them, and the places where they are to be predicted."""
    corrupted, labels = mask_tokens(batch.ids, batch.mask, batch.rows, special_ids(tokenizer),
                                    tokenizer.get_vocab_size(), rate, seed, step)
    return replace(batch, ids=corrupted, labels=labels, positions=np.flatnonzero(labels != IGNORED))


def masked_once(batches, tokenizer, rate, seed):
    """Every row of `batches` once, masked in one fixed way: a held-out set that is the same for every model."""
    for i, (_, batch) in enumerate(batches.once()):
        yield masked(batch, tokenizer, rate, seed, i)
