"""BERT with fewer heads in some layers: what is left when heads have been taken out of it for good.

    attention(x) = sum over the layer's own heads of Att_h(x) W_h + b        W_h (D, K) are the head's columns of Wo

The head size K and the width D stay, so that a layer of A' heads has queries, keys and values of A' K < D. A head that
goes takes 4 D K + 3 K parameters with it: its rows of Wq, Wk, Wv and their biases, and its columns of Wo. The output's
bias b belongs to no head: a layer without any has attention(x) = b.

transformers 5 cannot express it (its `prune_heads` is gone), so a checkpoint of it is read here alone.
"""

from dataclasses import dataclass

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage
from tinydistill.nn import Module, SelfAttention
from tinydistill.nn.layers import parameter
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig
from tinydistill.tensor import Tensor


@dataclass(frozen=True)
class PrunedBertConfig(BertConfig):
    """The shape of a BERT, with `heads` before anything was pruned (K = hidden / heads), and what is left of them.

    heads_kept: how many heads each layer has, 0 too; () for all.
    """

    heads_kept: tuple = ()

    title, model_type = "pruned BERT", "pruned-bert"

    def __post_init__(self):
        super().__post_init__()
        kept = tuple(self.heads_kept) or (self.heads,) * self.layers                    # a list, where from a file
        object.__setattr__(self, "heads_kept", kept)
        if len(kept) != self.layers or not all(isinstance(k, int) and 0 <= k <= self.heads for k in kept):
            raise WrongUsage(f"need heads_kept to be a number from 0 to {self.heads} for each of {self.layers} layers, "
                             f"got {list(kept)}")

    def as_dict(self):
        return super().as_dict() | {"heads_kept": list(self.heads_kept)}

    def __str__(self):
        return f"BERT {self.layers}x{self.hidden} with {sum(self.heads_kept)} of {self.layers * self.heads} heads"


class NoHeads(Module):
    """The attention of a layer without heads: nothing is read, the output's bias is added to every token."""

    heads = 0

    def __init__(self, width, size):
        self.output = Bias(width)
        self.size = size

    def project(self, x):
        """queries, keys, values, each (B, 0, T, K)."""
        B, T, _ = x.shape
        return (Tensor(xp_of(x.array).zeros((B, 0, T, self.size), x.dtype)),) * 3

    def attend(self, queries, keys, values, mask, run):
        """(B, T, D)."""
        B, _, T, _ = queries.shape
        bias = self.output.bias
        return bias + xp_of(bias.array).zeros((B, T, len(bias.array)), bias.dtype)


class Bias(Module):
    """What is left of a map that reads nothing."""

    def __init__(self, width):
        self.bias = parameter((width,))


class PrunedBert(Bert):
    """batch -> Features, as Bert does it. Shapes: of layer l, A = heads_kept[l]: scores[l] (B, A, T, T)."""

    @staticmethod
    def layer(config, l):
        made, heads, size = Bert.layer(config, l), config.heads_kept[l], config.hidden // config.heads
        made.attention = (SelfAttention(config.hidden, heads, config.attention_dropout, size) if heads
                          else NoHeads(config.hidden, size))
        return made


def pruned(model, heads):
    """The PrunedBert without these heads, an independent copy: it computes what `model` does with their gates at 0.

    heads: {layer: the numbers of its heads that go}, all counted from 0 in `model`, a Bert or a PrunedBert.
    Raises: WrongUsage for another architecture, or a head that is not there.
    """
    config = model.config
    if not isinstance(model, Bert) or config.model_type not in (BertConfig.model_type, PrunedBertConfig.model_type):
        raise WrongUsage(f"need a BERT to take heads from, got {config}")
    counts = getattr(config, "heads_kept", (config.heads,) * config.layers)
    for l, gone in heads.items():
        if not 0 <= l < config.layers or not set(gone) <= set(range(counts[l])):
            there = f"heads 0 to {counts[l] - 1}" if 0 <= l < config.layers else f"{config.layers} layers"
            raise WrongUsage(f"need heads that are there: {sorted(gone)} of layer {l}, and {config} has {there}")
    left = [[h for h in range(count) if h not in heads.get(l, ())] for l, count in enumerate(counts)]
    smaller = PrunedBertConfig(**config.as_dict() | {"heads_kept": tuple(map(len, left))})
    arrays, size = model.arrays(), config.hidden // config.heads
    for l, kept in enumerate(left):
        rows = np.ravel([range(h * size, (h + 1) * size) for h in kept]).astype(int)    # (A'K,)
        for name in [name for name in arrays if name.startswith(f"layers.{l}.attention.")]:
            place = name.split(".", 3)[3]
            if not kept and place != "output.bias":
                del arrays[name]
            elif place == "output.weight":
                arrays[name] = np.ascontiguousarray(arrays[name][:, rows])              # as a checkpoint gives it back
            elif place != "output.bias":
                arrays[name] = arrays[name][rows]
    like = model.parameters()[0].array
    return PrunedBert(smaller, None).to(xp_of(like), like.dtype).load(arrays)


def gone(config):
    """How many heads a BERT of this shape had and this one has not."""
    return config.layers * config.heads - sum(config.heads_kept)


def parameter_count(config):
    """Exact counts by part: a BERT's, less 4 D K + 3 K for every head that is gone."""
    counts, size = bert.parameter_count(config), config.hidden // config.heads
    less = gone(config) * (4 * config.hidden * size + 3 * size)
    return counts | {"transformer": counts["transformer"] - less, "total": counts["total"] - less}


def forward_flops(config, length, predicted=0.0):
    """A BERT's, less 2T 4 D K + 4 T^2 K for every head that is gone."""
    size = config.hidden // config.heads
    return bert.forward_flops(config, length, predicted) - gone(config) * (
        8 * length * config.hidden * size + 4 * length * length * size)


architecture = Architecture("Michel et al. 2019", PrunedBertConfig, PrunedBert,
                            parameter_count, forward_flops)
