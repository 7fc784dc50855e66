"""Batches of sequences of like length. Which rows make up a step is a function of the step: nothing is to be saved."""

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED, Batch

POOL = 50                                           # at most so many batches' rows are sorted by length together
SITE = stream("batches")


class Batches:
    """A training set as padded batches, in an order that (seed, epoch) decides.

    Every row comes once an epoch: one batch may be smaller, no row is dropped. Each epoch the rows are shuffled; with
    `bucket`, pools of up to `POOL` batches of them (and at least four pools, or an epoch's batches would be the last
    one's) are sorted by length, so that a batch has little padding, and the batches are shuffled once more.
    Shapes: sequences, token_types: a list of (T,) integers for each row · labels: such a list (token tasks; padded
    with `IGNORED`), or one number a row.
    """

    def __init__(self, sequences, batch_size, seed, token_types=None, labels=None, bucket=True, shuffle=True, pad_id=0):
        self.lengths = np.array([len(sequence) for sequence in sequences])
        if len(sequences) == 0 or batch_size < 1:
            raise WrongUsage(f"need at least one row and batches of at least one; "
                             f"got {len(sequences)} rows, batch size {batch_size}")
        if self.lengths.min() == 0:
            raise WrongUsage(f"need at least one token in every row; row {self.lengths.argmin()} is empty")
        self.labels_per_token = labels is not None and len(labels) > 0 and np.ndim(labels[0]) == 1
        for name, values, per_token in (("token types", token_types, True), ("labels", labels, self.labels_per_token)):
            _check(name, values, per_token, self.lengths)
        self.sequences, self.token_types, self.labels = sequences, token_types, labels
        self.batch_size, self.seed, self.bucket, self.shuffle, self.pad_id = batch_size, seed, bucket, shuffle, pad_id
        self._planned = (None, None)                # the latest epoch and its plan

    def __len__(self):
        """Batches an epoch."""
        return -(-len(self.sequences) // self.batch_size)

    def at(self, step):
        """The batch of step 0, 1, ...: the same for the same step, whatever was asked before."""
        epoch, place = divmod(step, len(self))
        return self.batch(self.plan(epoch)[place])

    def once(self):
        """Every row once, for evaluation: (numbers of the rows, Batch), by length or, without `bucket`, in order."""
        for indices in self._cut(np.arange(len(self.sequences)), pool=len(self)):
            yield indices, self.batch(indices)

    def plan(self, epoch):
        """The rows of each batch of this epoch."""
        planned = self._planned                     # read and replaced whole: threads may share these batches
        if planned[0] != epoch:
            random = generator(self.seed, SITE, epoch)
            order = np.arange(len(self.sequences))
            order = random.permutation(order) if self.shuffle else order
            batches = self._cut(order, pool=min(POOL, max(1, len(self) // 4)))
            if self.shuffle and self.bucket:
                batches = [batches[i] for i in random.permutation(len(batches))]
            self._planned = planned = (epoch, batches)
        return planned[1]

    def _cut(self, order, pool):
        """The rows of `order` in batches; with `bucket` sorted by length within every `pool` batches."""
        if self.bucket:
            size = pool * self.batch_size
            pools = [order[first:first + size] for first in range(0, len(order), size)]
            order = np.concatenate([rows[np.argsort(self.lengths[rows], kind="stable")] for rows in pools])
        return [order[first:first + self.batch_size] for first in range(0, len(order), self.batch_size)]

    def batch(self, indices):
        """These rows, padded to the longest of them."""
        lengths = self.lengths[indices]
        labels = self.labels
        if self.labels_per_token:
            labels = _padded(labels, indices, lengths, IGNORED)
        elif labels is not None:
            labels = np.asarray([labels[i] for i in indices])
        types = self.token_types
        return Batch(ids=_padded(self.sequences, indices, lengths, self.pad_id),
                     mask=np.arange(lengths.max()) < lengths[:, None],
                     token_types=None if types is None else _padded(types, indices, lengths, 0),
                     labels=labels, rows=np.arange(len(indices)), indices=np.asarray(indices))


def _padded(rows, indices, lengths, padding):
    padded = np.full((len(indices), lengths.max()), padding, np.int64)
    for line, i, length in zip(padded, indices, lengths):
        line[:length] = rows[i]
    return padded


def _check(name, values, per_token, lengths):
    """A value for every row, and where they are `per_token` for every token of it."""
    if values is None:
        return
    if len(values) != len(lengths):
        raise WrongUsage(f"need {name} for each of the {len(lengths)} rows; got {len(values)}")
    if per_token:
        for i, (value, length) in enumerate(zip(values, lengths)):
            if np.shape(value) != (length,):
                raise WrongUsage(f"need {name} for each of the {length} tokens of row {i}; "
                                 f"got the shape {np.shape(value)}")
