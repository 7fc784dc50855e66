"""A BERT of two vocabularies, a student of the second, and one text as each of them reads it: small and random."""

from dataclasses import replace

import numpy as np

from tinydistill.data.mixed_vocabulary import TwoTexts
from tinydistill.features import IGNORED
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.students.mixed_vocabulary import widened
from toys import VOCABULARY, batch_at, toy

SECOND = 9                                          # pieces of the second vocabulary
SHARED = ((0, 0), (3, 1), (2, 4))                   # row, piece
SETTINGS = {"dropout": 0.0, "attention_dropout": 0.0, "pooler": False, "head": "masked-lm"}
ROWS = np.array([0, 3, 19, 20, 2, 21, 22, 23, 24])  # of the second's pieces


def perturbed(model, seed):
    """Norms and biases some random numbers, too."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.array = parameter.array + 0.3 * rng.standard_normal(parameter.shape)
    return model


def plain_teacher(**changes):
    return perturbed(toy(12, 2, 1, **SETTINGS | changes), 1)


def mixed_teacher(**changes):
    return perturbed(widened(plain_teacher(**changes), SECOND, SHARED, seed=5), 2)


def second_student(**changes):
    """8 wide, with ids of the second vocabulary."""
    return perturbed(toy(8, 2, 0, **SETTINGS | {"vocabulary": SECOND} | changes), 3)


def mixed_batch(step, T=6):
    """Rows of both vocabularies, with labels of both at some tokens."""
    batch, rng = batch_at(step, T=T), np.random.default_rng(900 + step)
    ids = rng.integers(1, VOCABULARY + SECOND - len(SHARED), batch.ids.shape)
    return _labelled(replace(batch, ids=ids), rng.integers(4, VOCABULARY + SECOND - len(SHARED), ids.shape))


def two_texts(step):
    """A student's rows of 6 tokens at most, the teacher's of 8."""
    own, rng = batch_at(step), np.random.default_rng(700 + step)
    own = _labelled(replace(own, ids=rng.integers(1, SECOND, own.ids.shape)), rng.integers(1, SECOND, own.ids.shape))
    return TwoTexts(**vars(own), mixed=mixed_batch(step + 50, T=8))


def _labelled(batch, answers):
    labels = np.where(batch.mask & (np.arange(batch.ids.shape[1]) % 2 == 0), answers, IGNORED)
    return replace(batch, labels=labels, positions=np.flatnonzero(labels != IGNORED))


def whole(model):
    """The same rows as one vocabulary: a BERT, which has one softmax over all of them."""
    config = BertConfig(**{name: value for name, value in vars(model.config).items()
                           if name in BertConfig.__dataclass_fields__})
    return Bert(config, None).to(np, np.float64).load(model.arrays())
