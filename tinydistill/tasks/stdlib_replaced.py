"""The task `stdlib-replaced`: which tokens of a text were replaced?

The rows are Python's documentation; the labels cost nothing and need grammar and meaning, not topic. It is ELECTRA's
question with replacements from the unigram distribution, which no generator has to be trained for.
"""

from dataclasses import astuple, dataclass

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.data import stdlib
from tinydistill.data.stdlib_parts import split
from tinydistill.data.tokenizer import encode, special_ids
from tinydistill.errors import WrongUsage
from tinydistill.features import IGNORED
from tinydistill.tasks.metrics import auc
from tinydistill.tasks.task import Encoded, Task

RATE = 0.12                                         # the chance of each token to be redrawn


@dataclass(frozen=True)
class Replaced:
    """Texts to be corrupted, and the corpus whose tokens take their places. The labels follow from the tokenizer."""

    texts: list
    corpus: list
    seed: int = 0

    def __len__(self):
        return len(self.texts)

    def encode(self, tokenizer, max_length):
        """The corrupted texts with a label a token, as `corrupt` makes them."""
        special = astuple(special_ids(tokenizer))
        p = unigram(encode(tokenizer, self.corpus, max_length), special, tokenizer.get_vocab_size())
        pairs = [corrupt(ids, p, special, generator(self.seed, stream("stdlib-replaced"), stream(text)))
                 for ids, text in zip(encode(tokenizer, self.texts, max_length), self.texts)]
        return Encoded([corrupted for corrupted, _ in pairs], [labels for _, labels in pairs])


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
