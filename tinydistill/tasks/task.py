"""What a task is: labelled examples in parts, and how answers are scored.

Other kinds of examples (pairs, spans, regression) are other classes with `encode` beside `Examples`.
"""

import re
from dataclasses import dataclass
from hashlib import blake2b

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


# ---------------------------------------------------------------- cutting a set of texts in parts

PHRASE = 6                                          # with 5, boilerplate joins a tenth of `stdlib` into one family
PLAIN_WORD = re.compile(r"""["'(`*\[{<]*([A-Z]?[a-z]+)[.,;:!?"')`*\]}>]*""")


def canonical(text):
    """The plain words of a text in lower case: identifiers, calls, numbers and punctuation are left out.

    Two docstrings often differ in nothing else. A text with fewer than three plain words is code: all its words count.
    """
    words = [match[1].lower() for word in text.split() if (match := PLAIN_WORD.fullmatch(word))]
    return words if len(words) >= 3 else text.lower().split()


def families(texts):
    """For each text its family's name: texts that are near-duplicates of each other have the same.

    Near-duplicates: texts whose canonical words share a run of six, or, from four words up, differ by one word put in,
    left out or exchanged. Who has a near-duplicate in common is of one family, whose name is the alphabetically first
    canonical form in it.
    """
    forms = [canonical(text) for text in texts]
    parent, first = list(range(len(forms))), {}

    def root(i):
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for i, words in enumerate(forms):
        phrases = [words[k:k + PHRASE] for k in range(max(1, len(words) - PHRASE + 1))]
        if 4 <= len(words) < 2 * PHRASE:            # in a longer text one word more or less spares a run of six
            phrases += [words] + [words[:k] + words[k + 1:] for k in range(len(words))]
        for phrase in phrases:
            parent[root(i)] = root(first.setdefault(tuple(phrase), i))
    names = {}
    for i, words in enumerate(forms):
        names[root(i)] = min(names.get(root(i), words), words)
    return [" ".join(names[root(i)]) for i in range(len(forms))]


def places(texts):
    """Where each text falls when a set is cut in parts: a number in [0, 1), the same for all of one family.

    `place < 0.2` is a fifth of the families. The number is a hash of the family's name: the same on every machine and
    whatever the order of the texts.
    """
    return np.array([int.from_bytes(blake2b(name.encode(), digest_size=6).digest(), "big") / 2**48
                     for name in families(texts)])
