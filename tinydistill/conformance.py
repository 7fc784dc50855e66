"""tinydistill beside the vectors of `reference/`: the answer of every loss term and piece to one case of the kit.

`answer(convention)` is an implementation as tinydistill_reference.runner wants it. Losses are the registered terms, on
Features that hold the case's arrays; pieces are the ops and rules of `conformance_pieces.py`.
"""

from types import SimpleNamespace

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.conformance_losses import LOSSES
from tinydistill.conformance_pieces import PIECES
from tinydistill.features import PER_LAYER, PER_MODEL, Batch, Features
from tinydistill.losses import TERMS
from tinydistill.tensor import RowSparse, Tensor, gradients

SETTINGS = ("temperature", "smoothing", "relation_heads")           # attrs that are fields of a Term
ANSWERED = TERMS.keys() | PIECES.keys()
MEANS_OF_LAYERS = {("pkd.patience", "official")}    # where two pairs count as much as one
LEARNED = ("weight", "bias")                        # inputs that have no sequences
TOKENS = 3                                          # a case without tokens gets sequences of three


def answer(convention="paper", to_device=np.asarray, to_host=np.asarray, way="whole"):
    """call(equation, attrs, inputs, grads, upstream, dtype) under one convention; on the host, or on a device.

    way, of a loss term: "whole", by the divisor of the batch; "parts", of which each has that divisor, summed;
    "uncounted", where the loss counts its divisor itself; "pairs", half of two equal pairs of layers.
    """
    def call(equation, attrs, inputs, grads, upstream, dtype):
        if dtype not in ("float32", "float64"):
            return NotImplemented
        arrays = {name: to_device(x.astype(dtype) if np.issubdtype(x.dtype, np.floating) else x)
                  for name, x in inputs.items()}
        if equation not in ANSWERED:
            return NotImplemented
        learned = {name: Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x for name, x in arrays.items()}
        if equation in TERMS:
            term = TERMS[equation].under(convention)
            made = {"value": LOSSES[equation](term, attrs, **learned) if equation in LOSSES
                    else loss(term, attrs, learned, way)}
        else:
            made = PIECES[equation](attrs, convention, **learned)
        outputs = made if isinstance(made, dict) else {"y": made}
        found = {name: to_host(y.array if isinstance(y, Tensor) else y) for name, y in outputs.items()}
        return found | _gradients(outputs, learned, upstream, dtype, to_device, to_host) if grads else found
    return call


def _gradients(outputs, learned, upstream, dtype, to_device, to_host):
    """{"d" + input: array, or None where there is no gradient}."""
    tensors = {name: x for name, x in learned.items() if isinstance(x, Tensor)}
    upstream = upstream if isinstance(upstream, dict) else {name: upstream for name in outputs}
    total = sum((y * to_device(np.asarray(upstream[name], dtype))).sum() for name, y in outputs.items())
    found = gradients(total, list(tensors.values()))
    found = [g.dense() if isinstance(g, RowSparse) else g for g in found]
    return {f"d{name}": None if g is None else to_host(g) for name, g in zip(tensors, found)}


def loss(term, attrs, arrays, way="whole"):
    """The term on Features that hold these arrays, {input of the equation: Tensor or array}, as their only layer."""
    if way == "parts":
        parts = [{name: x if name in LEARNED else x[rows] for name, x in arrays.items()}
                 for rows in (slice(0, 1), slice(1, None))]
        divisor = _seen(term, attrs, arrays)[-1]
        return sum(_loss(*_seen(term, attrs, part)[:-1], divisor, part) for part in parts)
    if way == "pairs":
        term = term.on(((0, 0), (1, 1)))
    *seen, divisor = _seen(term, attrs, arrays)
    if way == "pairs" and (term.name, term.convention) not in MEANS_OF_LAYERS:
        return _loss(*seen, divisor, arrays) / len(term.pairs)
    return _loss(*seen, None if way == "uncounted" else divisor, arrays)


def _loss(term, sides, batch, divisor, arrays):
    learned = SimpleNamespace(weight=arrays.get("weight"), bias=arrays.get("bias"))
    return term(*sides, batch, divisor, {name: learned for name in term.projection_names})


def _seen(term, attrs, arrays):
    """(term, (student, teacher), batch, the batch's divisor)."""
    heads = arrays[f"teacher_{term.name.partition('.')[2]}"].shape[1] if "relation_heads" in attrs else None
    settings = {name: value for name, value in attrs.items() if name in SETTINGS}
    term = term.but(**settings | ({"relation_heads": 0} if attrs.get("relation_heads") == heads else {}))
    first, labels, mask = next(iter(arrays.values())), arrays.get("labels"), arrays.get("mask")
    if mask is None:
        shape = first.shape[:2] if len(first.shape) == 3 else (first.shape[0], TOKENS)
        mask = xp_of(first.array).ones(shape, bool)
    sides = [_features(side, arrays, mask, term) for side in ("student", "teacher")]
    batch = Batch(ids=np.zeros(mask.shape, np.int64), mask=mask, labels=labels)
    return term, sides, batch, term.divisor(batch)


def _features(side, arrays, mask, term):
    features, fields = Features(side, len(term.pairs), mask), {}
    for name, x in arrays.items():
        owner, _, field = name.partition("_")
        if owner == side and field in PER_LAYER:
            getattr(features, field).update(dict.fromkeys(range(len(term.pairs)), x))
        elif owner == side and field in PER_MODEL:
            by_token = field == "logits" and len(x.shape) == 3
            fields[field] = x.reshape(-1, x.shape[-1]) if by_token else x       # (B*T, V)
    return features.has(**fields)
