"""Which rows of Python's documentation are for what: a corpus to learn from, and what the embedded tasks are tested on.

Both tasks cut the same documents at the same places, so that no row of a dev or test part, nor a near-duplicate of one,
is in the corpus.
"""

import re
from dataclasses import dataclass

import numpy as np

from tinydistill.data.near_duplicates import places

# Shares of `places`. What stdlib-replaced leaves is the corpus, but for dev and test of stdlib-modules.
REPLACED = {"train": (0.0, 0.07), "dev": (0.07, 0.11), "test": (0.11, 0.20)}
TRAINING_ROWS = 1000
MODULES = {"test": (0.0, 0.2), "dev": (0.2, 0.3), "train": (0.3, 1.0)}

# Packages with at least 150 rows, on every platform, in Python 3.10 to 3.14.
PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "urllib", "xml")
NAME = re.compile(rf"\w\.\w|_|[a-z][A-Z]|[A-Z]{{2}}[a-z]|(?i:{'|'.join(PACKAGES)})")


def clean(text):
    """The text without the words that name things: any package of the list, dotted.names, CamelCase, under_scores."""
    return " ".join(word for word in text.split() if not NAME.search(word))


def package(document):
    """The label of a document: the place of its package in `PACKAGES`, or None where it is not one of them."""
    name = document.module.partition(".")[0]
    return PACKAGES.index(name) if name in PACKAGES else None


def document_places(documents):
    """`places` of documents, by what is left when names are removed. Both stdlib tasks cut at these."""
    return places([clean(document.text) for document in documents])


@dataclass(frozen=True)
class Split:
    """Texts by what they are for. Near-duplicates are in one part."""

    pretraining: list
    train: list
    dev: list
    test: list


def split(documents):
    """The documents in four parts: a corpus for tokenizer and pre-training, and rows that neither has seen.

    The corpus also leaves out what `stdlib-modules` keeps for dev and test, with its near-duplicates. Of the rows for
    training the first 1,000 are taken, in the order of their places.
    """
    place = document_places(documents)
    order = np.argsort(place, kind="stable")
    part = {name: [documents[i].text for i in order if low <= place[i] < high] for name, (low, high) in REPLACED.items()}
    held_out = max(high for _, high in REPLACED.values())
    of_modules = {p for document, p in zip(documents, place)                # these places are families, see `places`
                  if package(document) is not None and p < MODULES["train"][0]}
    pretraining = [document.text for document, p in zip(documents, place) if p >= held_out and p not in of_modules]
    return Split(pretraining, part["train"][:TRAINING_ROWS], part["dev"], part["test"])
