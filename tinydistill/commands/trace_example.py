"""A batch of two short sentences, one of them padded, and features that a loss term can read: what `trace` shows.

Every axis has another length, as far as the terms allow it, so that a shape tells what it is the shape of.
"""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from tinydistill.backend import generator, stream
from tinydistill.features import IGNORED, PER_LAYER, Batch, Features
from tinydistill.losses import Term
from tinydistill.tensor import Tensor

VOCABULARY = ("[PAD]", "[CLS]", "[SEP]", "the", "cat", "sleeps", "hello")
IDS = np.array([[1, 3, 4, 5, 2], [1, 6, 2, 0, 0]])
MASK = IDS != 0
READ = np.array([1, 2, 6, 8])                       # where a token head reads the flattened (B*T,): a [PAD] too
LABELLED = READ[:3]
(B, T), A, V, C = IDS.shape, 2, len(VOCABULARY), 3
WIDTH = A * 3                                       # of the student


@dataclass(frozen=True)
class Example:
    """Everything that a call of the term takes, and `inputs` {name: Tensor}: what may get a gradient."""

    term: Term
    student: object
    teacher: object
    batch: Batch
    divisor: float
    projections: dict
    inputs: dict

    def loss(self):
        return self.term(self.student, self.teacher, self.batch, self.divisor, self.projections)


def build(term, seed=0):
    """The first example that the term takes: models of different width before equal ones, tokens before sequences.

    Raises: ValueError with the term's own words where it takes none.
    """
    heads = ("tokens", "sequences", "spans") if "logits" in term.reads else ("none",)
    # `cross_entropy` is the same loss as `masked_lm`: only its name says that it is one of sequences
    heads = heads[1:] if term.name == "cross_entropy" else heads
    refused = None
    for head in heads:
        for teacher_width in (A * 4, WIDTH):
            try:
                example = _of_shapes(term, seed, head, teacher_width)
                example.loss()
                return example
            except ValueError as problem:
                refused = problem
    raise refused


def _of_shapes(term, seed, head, teacher_width):
    student_layers, teacher_layers = ([pair[i] for pair in term.pairs] for i in (0, 1))
    if term.reads_parameters:
        student, teacher = _parameters("student", WIDTH, seed), _parameters("teacher", teacher_width, seed)
        inputs = {f"student {name}": tensor for name, tensor in student.items()}
    else:
        student, inputs = _features("student", term.reads, student_layers, WIDTH, head, seed)
        teacher, _ = _features("teacher", term.teacher_reads, teacher_layers, teacher_width, head, seed)
    projections = {}
    for name in term.projection_names:
        shapes = {"weight": (teacher_width, WIDTH)} | ({"bias": (teacher_width,)} if term.projection_bias else {})
        learned = {part: Tensor(_draw(seed, f"{name} {part}", shape), requires_grad=True)
                   for part, shape in shapes.items()}
        projections[name] = SimpleNamespace(**{"bias": None} | learned)
        inputs |= {f"{name} {part}": tensor for part, tensor in learned.items()}
    batch = _batch(head)
    return Example(term, student, teacher, batch, term.divisor(batch), projections, inputs)


def _batch(head):
    batch = Batch(IDS, MASK, next_sentence=np.array([1, 0]))
    if head == "sequences":
        return replace(batch, labels=np.array([2, 0]))
    if head == "spans":
        return replace(batch, labels=np.array([[1, 3], [0, 1]]))
    labels = np.full(B * T, IGNORED)
    labels[LABELLED] = IDS.ravel()[LABELLED]
    return replace(batch, labels=labels.reshape(B, T), positions=READ)


def _features(side, fields, layers, width, head, seed):
    """(Features, {name: Tensor}) with these fields, on these layers."""
    K = width // A
    logits = {"tokens": (len(READ), V), "sequences": (B, C), "spans": (B, T, 2), "none": ()}[head]
    shapes = {"embeddings": (B, T, width), "hidden": (B, T, width), "scores": (B, A, T, T), "queries": (B, A, T, K),
              "keys": (B, A, T, K), "values": (B, A, T, K), "pooled": (B, width), "logits": logits,
              "next_sentence": (B, 2)}
    features, named = Features(side, len(layers), MASK), {}
    for field in fields:
        for layer in layers if field in PER_LAYER else (None,):
            name = f"{side} {field}" + ("" if layer is None else f"[{layer}]")
            named[name] = Tensor(_draw(seed, name, shapes[field]), requires_grad=side == "student")
            if layer is None:
                features = features.has(**{field: named[name]})
            else:
                getattr(features, field)[layer] = named[name]
    return features, named


def _parameters(side, width, seed):
    """A few weights of a model of that width: as wide, wider, and a vector."""
    shapes = {"query.weight": (width, width), "feed_forward.weight": (2 * width, width), "query.bias": (width,)}
    return {name: Tensor(_draw(seed, f"{side} {name}", shape), requires_grad=side == "student")
            for name, shape in shapes.items()}


def _draw(seed, name, shape):
    """Numbers of one decimal, which are short to read."""
    return generator(seed, stream(name)).standard_normal(shape).round(1)
