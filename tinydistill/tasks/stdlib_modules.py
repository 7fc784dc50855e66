"""The task `stdlib-modules`: which package of the standard library does a docstring come from?

Topic classification on text that every machine has. Word counts go far here and word order does not, so it shows when
pre-training and distillation have little to add: look at `floors` first.
"""

import re

import numpy as np

from tinydistill.data import stdlib
from tinydistill.data.stdlib_parts import MODULES, PACKAGES, clean, document_places, package
from tinydistill.errors import WrongUsage
from tinydistill.tasks.metrics import accuracy, matthews
from tinydistill.tasks.task import Examples, Task


def split(documents):
    """-> {"train", "dev", "test"}: Examples; near-duplicates are in one part. Rows with under five words are left out.

    No row of dev and test is in the pre-training corpus of `stdlib_replaced.split`; the rows of train may be, as text.
    """
    place, text = document_places(documents), [clean(document.text) for document in documents]
    label = [package(document) for document in documents]
    usable = [i for i in np.argsort(place, kind="stable")
              if label[i] is not None and len(re.findall("[A-Za-z]{2,}", text[i])) >= 5]
    rows = {part: [i for i in usable if low <= place[i] < high] for part, (low, high) in MODULES.items()}
    return {part: Examples([text[i] for i in rows[part]], np.array([label[i] for i in rows[part]], np.int64))
            for part in ("train", "dev", "test")}


def load(data_dir=None):
    """The examples of this machine's Python."""
    if data_dir is not None:
        raise WrongUsage(f"stdlib-modules comes with Python: leave the data folder out (got {data_dir})")
    return split(stdlib.documents())


# ---------------------------------------------------------------- what needs no Transformer

def floors(examples=None, part="test"):
    """Accuracy of two classifiers that read no word order: the largest class of train, and naive Bayes.

    -> {"majority": ..., "bag of words": ...}
    """
    examples = load() if examples is None else examples
    train, rows = examples["train"], examples[part]
    largest = np.bincount(train.labels).argmax()
    return {"majority": float(np.mean(rows.labels == largest)),
            "bag of words": accuracy(naive_bayes(train, rows.texts), rows.labels)}


def naive_bayes(train, texts, smoothing=0.3):
    """Log-probabilities (N, C), up to a constant for each text, by multinomial naive Bayes.

    Equation: log p(c | text) = log p(c) + sum over its words of log p(w | c) + constant, where
    p(w | c) = (count of w in c + smoothing) / (words in c + smoothing V) and p(c) ~ rows of c + smoothing. Words never
    seen in training say nothing. The smoothing is the best of 0.03, 0.1, 0.2, 0.3, 0.5, 1 on the dev rows.
    """
    def words(text):
        return re.findall("[a-z]+", text.lower())

    column = {word: i for i, word in enumerate(sorted({word for text in train.texts for word in words(text)}))}
    count = np.full((len(PACKAGES), len(column)), smoothing)                # (C, V)
    for text, label in zip(train.texts, train.labels):
        np.add.at(count[label], [column[word] for word in words(text)], 1)
    log_word = np.log(count / count.sum(1, keepdims=True))
    log_class = np.log(np.bincount(train.labels, minlength=len(PACKAGES)) + smoothing)
    return np.stack([log_class + log_word[:, [column[word] for word in words(text) if word in column]].sum(1)
                     for text in texts])


TASK = Task(name="stdlib-modules", what="which of nine packages of Python's standard library a docstring is from",
            source="this project: the docstrings of the running Python", kind="sequence", labels=PACKAGES,
            metrics={"accuracy": accuracy, "matthews": matthews}, load=load)
