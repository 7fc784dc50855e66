"""A BERT that reads words of two vocabularies in one text (Zhao et al. 2019), and predicts each in its own.

    rows of the word embeddings    0 .. V-1: the first vocabulary · from V up: what the second has that is not shared
    shared                         special tokens, which stand in both: [CLS] is one row, whoever wrote it
    a masked place                 softmax over the vocabulary by which its word was cut: two softmaxes, one matrix

An id of a batch is a row; `second_rows` says which row is the second vocabulary's piece number i. Either vocabulary has
its own part of the decoder's matrix, tied to the word embeddings or not, and of the bias. Which of the two softmaxes a
place has is known by its label; without labels the logits are those of all rows.

`folded` is what is left when one vocabulary goes: a plain BERT, with the same logits.

Source: Zhao et al. 2019 (abstract: teacher and student are trained at once, for the embeddings of the student's
vocabulary); US patent 11,797,862, claims 8 and 11: two separate softmax layers, words chosen at random with a
probability. That special tokens are shared, and that the decoders are tied, is unverified. No published code.
"""

import itertools
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage
from tinydistill.students.architecture import Architecture
from tinydistill.students.bert import Bert, forward_flops, parameter_count
from tinydistill.students.configs import BertConfig

WORDS = ("embeddings.word.weight", "head.decoder.weight", "head.bias")     # what has a row for each piece


@dataclass(frozen=True)
class MixedBertConfig(BertConfig):
    """The shape of a BERT whose `vocabulary` counts the rows of both vocabularies, shared ones once.

    second_vocabulary: pieces of the second. shared: (row, piece of the second) of each piece that stands in both.
    """

    second_vocabulary: int = 0
    shared: tuple = ()

    title, model_type = "mixed-vocabulary BERT", "mixed-bert"

    def __post_init__(self):
        super().__post_init__()
        pairs = self.shared                                                             # lists, where from a file
        if not all(isinstance(pair, (list, tuple)) and [type(i) for i in pair] == [int, int] for pair in pairs):
            raise WrongUsage(f"need shared to be pairs of whole numbers; got {pairs!r:.80}")
        object.__setattr__(self, "shared", tuple(map(tuple, pairs)))
        if not 0 <= self.second_vocabulary < self.vocabulary + len(pairs):
            raise WrongUsage(f"need a first vocabulary and a second: {self.vocabulary} rows in all, "
                             f"{self.second_vocabulary} of the second, {len(pairs)} shared")
        for what, side, size in (("row", 0, self.first_vocabulary), ("piece", 1, self.second_vocabulary)):
            column = [pair[side] for pair in pairs]
            if len(set(column)) < len(column) or not all(0 <= i < size for i in column):
                raise WrongUsage(f"need every shared {what} once and below {size}; got {column}")

    @property
    def first_vocabulary(self):
        """V, the pieces of the first."""
        return self.vocabulary - self.second_vocabulary + len(self.shared)

    @cached_property
    def second_rows(self):
        """The row of each piece of the second vocabulary. Shapes: (second_vocabulary,), NumPy."""
        return second_rows(self.first_vocabulary, self.second_vocabulary, self.shared)

    @cached_property
    def columns(self):
        """Which rows either softmax is over. Shapes: (2, vocabulary) bool, NumPy."""
        first, second = np.zeros((2, self.vocabulary), bool)
        first[:self.first_vocabulary] = True
        second[self.second_rows] = True
        return np.stack([first, second])

    def as_dict(self):
        return super().as_dict() | {"shared": [list(pair) for pair in self.shared]}


def second_rows(first, second, shared):
    """The row of each of `second` pieces beside `first` of the first vocabulary: the shared one, or the next new one.

    >>> second_rows(5, 3, shared=((1, 0),))
    array([1, 5, 6])
    """
    known, new = {piece: row for row, piece in shared}, itertools.count(first)
    return np.array([known[i] if i in known else next(new) for i in range(second)], int)


class MixedBert(Bert):
    """batch -> Features, as a BERT. Where a label says of which vocabulary a place is, the other's logits are -inf.

    Shapes: ids are rows of both vocabularies; logits (N, vocabulary) at the batch's positions.
    """

    def logits(self, x, batch, run):
        """As a BERT's; those of masked places in the vocabulary of their label."""
        logits = super().logits(x, batch, run)
        if self.config.head not in ("masked-lm", "pretraining") or batch.labels is None:
            return logits
        labels = batch.labels.reshape(-1)                                               # (B*T,)
        labels = labels if batch.positions is None else labels[batch.positions]         # (N,)
        second = (labels >= self.config.first_vocabulary).astype(int)
        own = xp_of(labels).asarray(self.config.columns)[second]                        # (N, vocabulary)
        return ops.masked(logits, mask=own, fill=-float("inf"))


def widened(model, second_vocabulary, shared=(), seed=0):
    """A BERT that reads a second vocabulary besides its own: the new rows are drawn, all else is copied.

    shared: (its id, the second's id) of each token that stands in both: `data.mixed_vocabulary.shared_ids`.
    """
    ours, like = model.config, model.parameters()[0].array
    made = MixedBert(widened_config(ours, second_vocabulary, shared), seed=None).to(xp_of(like), like.dtype)
    made.draw(seed, WORDS[:2])
    arrays, own = made.arrays(), model.arrays()
    for name in WORDS:
        if name in own:
            own[name] = np.concatenate([own[name], arrays[name][ours.vocabulary:]])
    return made.load(own)


def widened_config(config, second_vocabulary, shared=()):
    """The configuration of `widened`. Raises: WrongUsage where it is that of another model than a BERT."""
    if config.model_type != "bert":
        raise WrongUsage(f"need a BERT to give a second vocabulary; got {config}")
    rows = config.vocabulary + second_vocabulary - len(shared)
    return MixedBertConfig(**_plain(config) | {"vocabulary": rows}, second_vocabulary=second_vocabulary, shared=shared)


def folded(model, second=False):
    """The plain BERT of one vocabulary, the first or the second, with ids of its own. Its parameters are copies."""
    config = model.config
    rows = config.second_rows if second else np.arange(config.first_vocabulary)
    plain = BertConfig(**_plain(config)).but(vocabulary=len(rows), **({"pad_id": second_pad(config)} if second else {}))
    like = model.parameters()[0].array
    arrays = {name: array[rows] if name in WORDS else array for name, array in model.arrays().items()}
    return Bert(plain, seed=None).to(xp_of(like), like.dtype).load(arrays)


def second_pad(config):
    """The id of [PAD] in the second vocabulary; 0 where it is not shared."""
    return dict(config.shared).get(config.pad_id, 0)


def _plain(config):
    return {field.name: getattr(config, field.name) for field in fields(BertConfig)}


architecture = Architecture("Zhao et al. 2019", MixedBertConfig, MixedBert,
                            parameter_count, forward_flops)
