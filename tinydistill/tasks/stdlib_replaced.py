"""The task `stdlib-replaced`: which tokens of a text were replaced?

The rows are Python's documentation; the labels cost nothing and need grammar and meaning, not topic. It is ELECTRA's
question with replacements from the unigram distribution, which no generator has to be trained for.
"""

from dataclasses import astuple, dataclass

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.data import stdlib
from tinydistill.data.tokenizer import encode, special_ids
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.tasks import stdlib_modules
from tinydistill.tasks.metrics import auc
from tinydistill.tasks.task import Task

RATE = 0.12                                         # the chance of each token to be redrawn
TRAINING_ROWS = 1000
PARTS = {"train": (0.0, 0.07), "dev": (0.07, 0.11), "test": (0.11, 0.20)}   # of `places`; the rest is the corpus


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
    place = stdlib_modules.document_places(documents)
    order = np.argsort(place, kind="stable")
    part = {name: [documents[i].text for i in order if low <= place[i] < high] for name, (low, high) in PARTS.items()}
    held_out = max(high for _, high in PARTS.values())
    of_modules = {p for document, p in zip(documents, place)                # these places are families, see `places`
                  if stdlib_modules.package(document) is not None and p < stdlib_modules.PARTS["train"][0]}
    pretraining = [document.text for document, p in zip(documents, place) if p >= held_out and p not in of_modules]
    return Split(pretraining, part["train"][:TRAINING_ROWS], part["dev"], part["test"])


@dataclass(frozen=True)
class Replaced:
    """Texts to be corrupted, and the corpus whose tokens take their places. The labels follow from the tokenizer."""

    texts: list
    corpus: list
    seed: int = 0

    def __len__(self):
        return len(self.texts)

    def encode(self, tokenizer, max_length):
        """-> (corrupted, labels): N arrays of token ids, and N arrays of the same lengths, as `corrupt` makes them."""
        special = astuple(special_ids(tokenizer))
        p = unigram(encode(tokenizer, self.corpus, max_length), special, tokenizer.get_vocab_size())
        pairs = [corrupt(ids, p, special, generator(self.seed, stream("stdlib-replaced"), stream(text)))
                 for ids, text in zip(encode(tokenizer, self.texts, max_length), self.texts)]
        return [corrupted for corrupted, _ in pairs], [labels for _, labels in pairs]


def unigram(sequences, special, vocabulary_size):
    """p (V,): how often each token occurs in the sequences, special tokens apart."""
    count = np.bincount(np.concatenate(sequences), minlength=vocabulary_size)
    count[list(special)] = 0
    return count / count.sum()


def corrupt(ids, p, special, random):
    """One sequence (T,) with each token redrawn from p (V,) with chance `RATE` -> (corrupted, labels), both (T,).

    Label 1: the token was redrawn and differs from the original; 0: it is the original, maybe redrawn as itself;
    IGNORED: a special token, never redrawn. So the chance of label 1 is RATE (1 - p[token]).
    """
    real = ~np.isin(ids, special)
    redrawn = real & (random.random(len(ids)) < RATE)
    corrupted = np.where(redrawn, random.choice(len(p), len(ids), p=p), ids).astype(ids.dtype)
    return corrupted, np.where(real, corrupted != ids, IGNORED)


def load(data_dir=None):
    """The rows of this machine's Python."""
    if data_dir is not None:
        raise WrongUsage(f"stdlib-replaced comes with Python: leave the data folder out (got {data_dir})")
    parts = split(stdlib.documents())
    return {name: Replaced(getattr(parts, name), parts.pretraining) for name in ("train", "dev", "test")}


def token_auc(logits, labels):
    """AUC of log p(replaced) - log p(original) over all tokens of all rows together."""
    return auc(logits[:, 1] - logits[:, 0], labels)


TASK = Task(name="stdlib-replaced", what="which tokens of Python's documentation were redrawn at random (12 %)",
            source="this project, after Clark et al. 2020 (ELECTRA), with unigram replacements", kind="token",
            labels=("original", "replaced"), metrics={"auc": token_auc}, load=load)
