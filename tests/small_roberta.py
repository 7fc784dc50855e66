"""A small RoBERTa and a padded batch for it: what its tests share."""

from dataclasses import replace

import numpy as np
import pytest

import student_checks as check
from small_bert import VOCABULARY, draw_batch
from tinydistill.students.roberta import Roberta, RobertaConfig

SIZE = dict(layers=3, hidden=12, heads=3, feed_forward=20, vocabulary=VOCABULARY, positions=13, initial_std=0.4)
SMALL = RobertaConfig(**SIZE)
HEADS = ("none", "masked-lm", "sequence", "token", "span")
every_head = pytest.mark.parametrize("head", HEADS)
both_kernels = pytest.mark.parametrize("choice", ["fused", "plain"])


def build(head="none", **changes):
    return check.build(Roberta, SMALL, head, **({"pooler": head == "none"} | changes))


def padded(head, seed=1, **settings):
    """A batch with <pad> in its padding, and one within a sequence; token types 0."""
    batch = draw_batch(head, seed, **settings)
    ids = np.where(batch.mask, batch.ids, SMALL.pad_id)
    ids[0, 3] = SMALL.pad_id
    return replace(batch, ids=ids, token_types=np.zeros_like(ids))
