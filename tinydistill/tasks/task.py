"""What a task is: labelled examples in parts, and how answers are scored.

Other kinds of examples (pairs, spans, regression) are other classes with `encode` beside `Examples`.
"""

from dataclasses import dataclass

import numpy as np

from tinydistill.data.tokenizer import encode
from tinydistill.errors import Problem
from tinydistill.features import IGNORED


@dataclass(frozen=True)
class Examples:
    """Texts with one label each: `labels` (N,) integers."""

    texts: list
    labels: np.ndarray

    def __len__(self):
        return len(self.texts)

    def encode(self, tokenizer, max_length):
        """-> (sequences, labels): N arrays of token ids, and one label each."""
        return encode(tokenizer, self.texts, max_length), self.labels


@dataclass(frozen=True)
class Task:
    """One task, as a table entry.

    kind: "sequence", one label a text, or "token", one label a token · labels: the names of the classes ·
    metrics: functions of (logits, labels) by name, the headline first · load: `load(data_dir=None)` gives the examples
    of each split that there is.
    """

    name: str
    what: str
    source: str
    kind: str
    labels: tuple
    metrics: dict
    load: object
    splits: tuple = ("train", "dev", "test")

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
        if isinstance(logits, (list, tuple)):
            logits, labels = np.concatenate(logits), np.concatenate(labels)
        if logits.shape != labels.shape + (len(self.labels),):
            raise Problem(f"{self.name} needs {len(self.labels)} logits for each label: "
                          f"logits {logits.shape}, labels {labels.shape}")
        logits, labels = logits[labels != IGNORED], labels[labels != IGNORED]
        if len(labels) == 0:
            raise Problem(f"{self.name} has nothing to score: no position has a label")
        if not np.isfinite(logits).all():
            raise Problem(f"{self.name} cannot be scored: {(~np.isfinite(logits)).sum()} logits are not finite")
        return {name: metric(logits, labels) for name, metric in self.metrics.items()}
