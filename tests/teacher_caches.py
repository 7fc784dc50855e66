"""A training set, a teacher and its cache, small: what tests of teacher caches share."""

import numpy as np

from tinydistill.backend import to_host
from tinydistill.data.batches import Batches
from tinydistill.features import PER_LAYER, Needs
from tinydistill.training.teacher_cache import open_or_build
from toys import VOCABULARY, toy

LENGTHS = (3, 8, 1, 5, 5, 2, 7, 4, 1, 6, 8)
LABELS = ("no", "perhaps", "yes")
EVERYTHING = Needs.of(**{name: range(3) for name in PER_LAYER}, embeddings=True, pooled=True, logits=True)
IDENTITY = {"teacher": "abc", "max_length": 8}


def data(batch_size=4, seed=0, lengths=LENGTHS, **changes):
    """Batches of the same rows, whatever their order."""
    random = np.random.default_rng(7)
    types = [random.integers(0, 2, n) for n in lengths]
    rows = [random.integers(1, VOCABULARY, n) for n in lengths]
    return Batches(**{"sequences": rows, "batch_size": batch_size, "seed": seed, "token_types": types} | changes)


def teacher_of(head="sequence", dtype=np.float32):
    return toy(12, 3, 1, dtype, head=head, labels=LABELS if head in ("sequence", "token") else ())


def standing_in(teacher, call):
    """`call` in the place of the teacher's pass."""
    call.config, call.parameters = teacher.config, teacher.parameters
    return call


def build(directory, teacher=None, needs=EVERYTHING, batches=None, identity=IDENTITY, dtype="float32", **settings):
    return open_or_build(directory, teacher or teacher_of(), batches or data(), needs, identity, dtype,
                         **{"say": lambda line: None, "quiet": True} | settings)


def fields_of(features, needs):
    """{(field, layer): array} of what a pass was asked for."""
    return {(name, layer): to_host((getattr(features, name) if layer is None else getattr(features, name)[layer]).array)
            for name, layer in needs.wanted}


def rows_of(features, needs, batch, head="sequence"):
    """{(field, layer, row of the data set): its part of the array without padding}."""
    found = {}
    for (field, layer), values in fields_of(features, needs).items():
        if field == "logits" and head != "sequence":
            values = values.reshape(*batch.ids.shape, -1)                               # (B, T, C)
        for line, i in enumerate(batch.indices):
            tokens = slice(LENGTHS[i])
            real = {"scores": (..., tokens, tokens), "queries": (..., tokens, slice(None)), "pooled": ...}
            real["keys"] = real["values"] = real["queries"]
            whole = field == "next_sentence" or (field == "logits" and head == "sequence")
            found[field, layer, int(i)] = values[line][... if whole else real.get(field, tokens)]
    return found
