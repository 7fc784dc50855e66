"""One text in two tokenisations (Zhao et al. 2019): a student's own, and a mixture of the student's and the teacher's.

    student    [CLS] all words by the second vocabulary [SEP]
    teacher    [CLS] each word by the second vocabulary with probability p, else by the first [SEP]

A word is what stands between spaces. Which of its words a row cuts how is a function of (seed, step, row): neither of
the other rows, nor of what was asked before. The teacher's ids are rows of `students/mixed_vocabulary.py`; special
tokens are those of the first. Both rows are masked, each for itself.

Source: US patent 11,797,862, claims 11 and 12: words chosen at random with a probability that may rise from step to
step. What a word is, and that places are masked in either row for itself, is unverified. No published code.
"""

from dataclasses import dataclass, fields, replace
from itertools import islice

import numpy as np

from tinydistill.backend import random_bits, stream
from tinydistill.data import inputs
from tinydistill.data.batches import Batches
from tinydistill.data.tokenizer import encode, special_ids
from tinydistill.errors import WrongUsage
from tinydistill.features import Batch

SITE = stream("mixed vocabulary")


@dataclass(frozen=True)
class TwoTexts(Batch):
    """The rows of a batch as a student reads them, and in `mixed`, a Batch, the same rows as its teacher reads them."""

    mixed: Batch | None = None

    @property
    def own(self):
        """The student's rows by themselves."""
        return Batch(**{field.name: getattr(self, field.name) for field in fields(Batch)})

    def to(self, xp):
        return TwoTexts(**vars(self.own.to(xp)), mixed=self.mixed.to(xp))

    def split(self, shards):
        """The same rows of both to each worker."""
        parts = zip(self.own.split(shards), self.mixed.split(shards), strict=True)
        return [TwoTexts(**vars(own), mixed=mixed) for own, mixed in parts]


def shared_ids(first, second):
    """((id in the first, id in the second), ...) of the five special tokens, by which either tokenizer calls them."""
    return tuple(zip(vars(special_ids(first)).values(), vars(special_ids(second)).values()))


class MixedTexts:
    """Texts by two tokenizers, as batches of rows of like length in the student's.

    first, second: the tokenizers of teacher and student. rows: where the second's pieces stand among those of both,
    `MixedBertConfig.second_rows`. recipe: of the batches, its `max_length` that of either row.
    """

    def __init__(self, texts, first, second, rows, recipe, seed):
        if len(rows) != second.get_vocab_size():
            raise WrongUsage(f"need a row for each of the {second.get_vocab_size()} pieces of the student's tokenizer; "
                             f"got {len(rows)}")
        self.special, self.rows, self.seed, self.size = special_ids(first), rows, seed, first.get_vocab_size()
        self.student = Batches(encode(second, texts, recipe.max_length), recipe.batch_size, seed,
                               pad_id=special_ids(second).pad)
        self.room = recipe.max_length - 2           # between [CLS] and [SEP]
        split = [text.split() for text in texts]
        distinct = list(dict.fromkeys(word for words in split for word in words))
        spaced = [" " + word for word in distinct]                                      # a part of it to BPE
        cut = [[found.ids for found in tokenizer.encode_batch(spaced, add_special_tokens=False)]
               for tokenizer in (first, second)]
        self.pieces = cut[0], [list(map(int, rows[ids])) for ids in cut[1]]             # of each word, by either
        number = {word: i for i, word in enumerate(distinct) if cut[0][i] and cut[1][i]}
        self.words = [list(islice((number[word] for word in words if word in number), self.room)) for words in split]

    def row(self, i, place, step, probability):
        """The teacher's tokens of text i, which has this place in the batch of a step."""
        words = self.words[i]
        second = random_bits(len(words), self.seed, place, SITE, step) < probability * 2 ** 16
        pieces = [piece for word, by in zip(words, second.tolist()) for piece in self.pieces[by][word]]
        return np.array([self.special.cls, *pieces[:self.room], self.special.sep])

    def at(self, step, probability):
        """The batch of a step, nothing masked; probability: of a word to be cut by the second vocabulary."""
        own = self.student.at(step)
        rows = [self.row(i, place, step, probability) for i, place in zip(own.indices, own.rows)]
        mixed = Batches(rows, len(rows), self.seed, bucket=False, shuffle=False, pad_id=self.special.pad).at(0)
        return TwoTexts(**vars(own), mixed=replace(mixed, rows=own.rows, indices=own.indices))

    @property
    def sequences(self):
        """Every text by either vocabulary alone: what frequencies are counted on."""
        return [np.array([piece for word in words for piece in pieces[word]], int)
                for pieces in self.pieces for words in self.words]

    def masking(self, name, tokenizer):
        """mask(batch, rate, seed, step) of both rows by the name of a masking; tokenizer: the student's."""
        size = max(self.size, int(self.rows.max()) + 1)                                 # of both vocabularies
        own, mixed = inputs.masking(name, tokenizer, self.student), inputs.choosing(name, self.special, size, self)

        def mask(batch, rate, seed, step):
            return replace(inputs.masked(batch, own, rate, seed, step),
                           mixed=inputs.masked(batch.mixed, mixed, rate, seed, step))
        return mask


def batches_at(texts, first, second, rows, recipe, seed, *, probability, masking="bert", rate=0.15):
    """step -> the masked TwoTexts of this step. probability: a function of the step; the others as for `MixedTexts`."""
    mixed = MixedTexts(texts, first, second, rows, recipe, seed)
    mask = mixed.masking(masking, second)
    return lambda step: mask(mixed.at(step, probability(step)), rate, seed, step)
