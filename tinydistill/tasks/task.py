"""What a task is: labelled examples in parts, and how answers are scored.

Other kinds of examples (words, spans, regression) are other classes with `encode` beside `Examples`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tinydistill.data.tokenizer import encode
from tinydistill.errors import Problem
from tinydistill.features import IGNORED


class Encoded(NamedTuple):
    """Examples as a model reads them, one entry a row.

    sequences: N arrays of token ids (T,) · labels: one number each, or N arrays (T,) with IGNORED where there is none ·
    token_types: N arrays (T,), or None for all 0.
    """

    sequences: list
    labels: object
    token_types: list = None


@dataclass(frozen=True)
class Examples:
    """Texts, or pairs of texts, with one label each: `labels` (N,) integers; `pairs` the second texts, or None."""

    texts: list
    labels: np.ndarray
    pairs: list = None

    def __len__(self):
        return len(self.texts)

    @property
    def rows(self):
        """The texts of each row: (text,) or (text, second text)."""
        return list(zip(self.texts)) if self.pairs is None else list(zip(self.texts, self.pairs))

    def encode(self, tokenizer, max_length):
        """`[CLS] A [SEP]`, or `[CLS] A [SEP] B [SEP]` with token types 0 and 1; see `tokenizer.encode`."""
        if self.pairs is None:
            return Encoded(encode(tokenizer, self.texts, max_length), self.labels)
        sequences, token_types = encode(tokenizer, self.texts, max_length, self.pairs)
        return Encoded(sequences, self.labels, token_types)


class OfSequences(NamedTuple):
    """A metric that must know where sequences end: a function of (logits, labels, number of the sequence of each)."""

    metric: object


@dataclass(frozen=True)
class Task:
    """One task, as a table entry.

    kind: "sequence", one label a text, or "token", one label a token · labels: the names of the classes, () where the
    data tell them · metrics: functions of (logits, labels), or `OfSequences`, by name, the headline first ·
    load: `load(data_dir=None)` gives the examples of each split that there is · settle: `settle(task, splits)` is the
    task with what only the data tell, its labels and metrics; None where nothing is open.
    """

    name: str
    what: str
    source: str
    kind: str
    labels: tuple
    metrics: dict
    load: object
    splits: tuple = ("train", "dev", "test")
    settle: object = None

    def open(self, data_dir=None):
        """-> (this task with its labels, the examples of each split): what training and evaluation begin with."""
        splits = self.load(data_dir)
        return self if self.settle is None else self.settle(self, splits), splits

    @property
    def metric(self):
        """The name of the headline metric."""
        return next(iter(self.metrics))

    def score(self, logits, labels):
        """Every metric by name, the headline first, as fractions of 1.

        Shapes: logits (..., C) and labels (...), or lists of such arrays (one a sequence), which are pooled. Where a
        label is IGNORED the logits are not read.
        Raises: Problem where logits and labels do not fit together, nothing is labelled, or a logit is not finite.
        """
        sequences = [labels] if isinstance(labels, np.ndarray) and labels.ndim == 1 else labels
        sequence = np.repeat(np.arange(len(sequences)), [np.size(of_one) for of_one in sequences])
        if isinstance(logits, (list, tuple)):
            logits, labels = np.concatenate(logits), np.concatenate(labels)
        if logits.shape != labels.shape + (len(self.labels),):
            raise Problem(f"{self.name} needs {len(self.labels)} logits for each label: "
                          f"logits {logits.shape}, labels {labels.shape}")
        sequence = sequence.reshape(labels.shape)[labels != IGNORED]
        logits, labels = logits[labels != IGNORED], labels[labels != IGNORED]
        if len(labels) == 0:
            raise Problem(f"{self.name} has nothing to score: no position has a label")
        if not np.isfinite(logits).all():
            raise Problem(f"{self.name} cannot be scored: {(~np.isfinite(logits)).sum()} logits are not finite")
        return {name: metric.metric(logits, labels, sequence) if isinstance(metric, OfSequences)
                else metric(logits, labels) for name, metric in self.metrics.items()}
