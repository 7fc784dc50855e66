"""What goes into a model, what a pass through it is told, and what comes out: f(e) of MiniLM's equation 5.

A loss declares what it needs (`Needs`), the model computes that and stops there, and the answer is a `Features`.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from tinydistill.backend import random_bits, xp_of
from tinydistill.errors import Problem

IGNORED = -100                                      # the label of a position that is not to be predicted


@dataclass(frozen=True)
class Batch:
    """e: B sequences padded to T. All arrays live in one library.

    Shapes: ids (B, T) integers · mask (B, T), True at real tokens · token_types (B, T) or None for all 0 ·
    labels (B, T) for tokens with `IGNORED` elsewhere, (B,) for sequences, or None ·
    next_sentence (B,): 0 where the second sentence follows the first, 1 where it does not, or None ·
    positions (N,): where in the flattened (B*T,) a token head is to be read; None reads it everywhere ·
    attention_mask (B, T, T): True where a query (row) may see a key; None: it sees all real tokens ·
    position_ids (B, T): the position that each token has; None: its place in the row ·
    rows (B,) NumPy: the place of each sequence in the global batch, which names its dropout bits ·
    indices (B,) NumPy: the place of each sequence in the data it came from, which names it in a teacher cache.
    """

    ids: object
    mask: object
    token_types: object = None
    labels: object = None
    positions: object = None
    rows: object = None
    indices: object = None
    next_sentence: object = None
    attention_mask: object = None
    position_ids: object = None

    def __len__(self):
        return len(self.ids)

    def to(self, xp):
        """The same batch in the array library `xp`."""
        moved = {name: xp.asarray(value) for name, value in vars(self).items()
                 if value is not None and name not in ("rows", "indices")}
        return replace(self, **moved)

    def split(self, shards):
        """At most `shards` contiguous parts, which keep their rows' numbers: what each worker gets. NumPy only."""
        length = self.ids.shape[1]
        rows = np.arange(len(self)) if self.rows is None else self.rows
        parts = []
        for part in np.array_split(np.arange(len(self)), shards):
            if len(part) == 0:
                continue
            first, last = part[0], part[-1] + 1
            cut = {name: value[first:last] for name, value in vars(self).items()
                   if value is not None and name not in ("positions", "rows")}
            if self.positions is not None:
                inside = (self.positions >= first * length) & (self.positions < last * length)
                cut["positions"] = self.positions[inside] - first * length
            parts.append(Batch(**cut, rows=rows[first:last]))
        return parts


PER_LAYER = ("hidden", "scores", "queries", "keys", "values")
PER_MODEL = ("embeddings", "pooled", "logits", "next_sentence")


@dataclass(frozen=True)
class Needs:
    """Which features a loss reads: pairs (field, layer); layers count from 0, from the end when negative.

    >>> Needs.of(queries=[-1], logits=True) | Needs.of(queries=[-1], keys=[-1])
    Needs(keys[-1], logits, queries[-1])
    """

    wanted: frozenset = frozenset()

    @classmethod
    def of(cls, **fields):
        pairs = set()
        for name, layers in fields.items():
            if name not in PER_LAYER + PER_MODEL:
                raise ValueError(f"need a feature out of {', '.join(PER_LAYER + PER_MODEL)}; got {name}")
            if name in PER_LAYER:
                pairs |= {(name, layer) for layer in layers}
            elif layers:
                pairs.add((name, None))
        return cls(frozenset(pairs))

    def __or__(self, other):
        return Needs(self.wanted | other.wanted)

    def __contains__(self, name):
        return any(wanted == name for wanted, _ in self.wanted)

    def layers(self, name, depth):
        """The layers of a model of `depth` layers whose `name` is needed, counted from 0."""
        layers = {layer + depth if layer < 0 else layer for wanted, layer in self.wanted if wanted == name}
        outside = sorted(layer for layer in layers if not 0 <= layer < depth)
        if outside:
            raise Problem(f"need {name} of layer {outside[0]}, but the model has {depth} layers (0 to {depth - 1})")
        return layers

    def extent(self, depth):
        """How far a pass through `depth` layers has to go: (last layer, whether past its projections); -1: no layer."""
        reach = {(depth - 1, True) for name, _ in self.wanted if name in ("pooled", "logits", "next_sentence")}
        for name in PER_LAYER:
            reach |= {(layer, name == "hidden") for layer in self.layers(name, depth)}
        return max(reach, default=(-1, True))

    def __repr__(self):
        return f"Needs({', '.join(sorted(n if l is None else f'{n}[{l}]' for n, l in self.wanted))})"


class Layers(dict):
    """One field of Features by layer: `hidden[0]` is the output of the first layer, `hidden[-1]` of the last."""

    def __init__(self, name, depth, model):
        super().__init__()
        self.name, self.depth, self.model = name, depth, model

    def __missing__(self, layer):
        if -self.depth <= layer < 0 and layer + self.depth in self:
            return self[layer + self.depth]
        raise Problem(f"need {self.name} of layer {layer}, which {self.model} did not compute: "
                      f"either its Needs leave it out or this architecture has none")


@dataclass(frozen=True)
class Features:
    """f(e): what a model computed because a loss needs it.

    Shapes: mask (B, T) · embeddings (B, T, D), summed and normalised · hidden[l] (B, T, D) · scores[l] (B, A, T, T),
    scaled, before mask and softmax · queries[l], keys[l], values[l] (B, A, T, K) · pooled (B, D) ·
    logits (N, V) for the N positions of the batch, or (B, C) · next_sentence (B, 2).
    observed {site: array ()}: what this pass saw of the ranges that a quantised model learns.
    """

    model: str
    depth: int
    mask: object
    hidden: Layers = field(init=False)
    scores: Layers = field(init=False)
    queries: Layers = field(init=False)
    keys: Layers = field(init=False)
    values: Layers = field(init=False)
    embeddings: object = None
    pooled: object = None
    logits: object = None
    next_sentence: object = None
    observed: dict = field(default_factory=dict)

    def __post_init__(self):
        for name in PER_LAYER:
            object.__setattr__(self, name, Layers(name, self.depth, self.model))

    def has(self, **fields):
        """The same features with these fields of the whole model filled in; layers already recorded are kept."""
        filled = replace(self, **fields)
        for name in PER_LAYER:
            getattr(filled, name).update(getattr(self, name))
        return filled


@dataclass(frozen=True)
class Pass:
    """What one pass through a model is told, instead of being found in the state of modules.

    needs: what to compute · training: whether dropout is on · (seed, step): which dropout bits ·
    rows: global number of each sequence, so that a row drops the same units on any shard ·
    decisions: which modules take part (Theseus), which layers (LayerDrop), as bools of the host; None: as in evaluation.
    """

    needs: Needs = Needs()
    training: bool = False
    seed: int = 0
    step: int = 0
    rows: object = None
    decisions: object = None

    def bits(self, site, shape, like):
        """Random 16-bit integers of `shape` (B, ...) for the dropout at `site`, in the library of `like`."""
        rows = range(shape[0]) if self.rows is None else self.rows
        count = int(np.prod(shape[1:]))
        drawn = np.array([random_bits(count, self.seed, row, site, self.step) for row in rows], np.uint16)
        return xp_of(like).asarray(drawn.reshape(shape))
