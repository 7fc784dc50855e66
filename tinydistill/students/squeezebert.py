"""SqueezeBERT (Iandola et al. 2020): a BERT whose maps of each token are 1x1 convolutions in groups.

    y_g = x_g W_g^T + b_g        for each group g of channels

Queries, keys, values and both maps of the feed-forward part have 4 groups, the attention's output has 1: there alone do
the groups mix. Heads are split after the grouped map, whatever the number of groups. Groups are not shuffled.

Source: huggingface/transformers, modeling_squeezebert.py, which lays channels before tokens, (B, D, T), and computes
the same numbers.
"""

from dataclasses import dataclass

from tinydistill.errors import WrongUsage
from tinydistill.nn import Dropout, EncoderLayer, FeedForward, GroupedLinear, LayerNorm, SelfAttention
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.bert import Bert
from tinydistill.students.configs import HEADS, BertConfig, sized


@dataclass(frozen=True)
class SqueezeBertConfig(BertConfig):
    """The shape of a SqueezeBERT: a BERT's, and in how many groups each map of a layer is."""

    query_groups: int = 4
    key_groups: int = 4
    value_groups: int = 4
    attention_output_groups: int = 1
    inner_groups: int = 4                           # of the feed-forward part, D -> F
    outer_groups: int = 4                           # and F -> D
    title, model_type = "SqueezeBERT", "squeezebert"
    layer_kind = "SqueezeBERT's"
    read_pooled = HEADS                             # transformers has a pooler beside every head, read or not

    def __post_init__(self):
        super().__post_init__()
        for name, (inputs, outputs, groups) in self.maps().items():
            if groups < 1 or inputs % groups or outputs % groups:
                raise WrongUsage(f"need widths that the groups of a map divide: "
                                 f"{name} {inputs} to {outputs} in {groups}")

    def maps(self):
        """{name: (inputs, outputs, groups)} of the six maps of a layer."""
        D, F = self.hidden, self.feed_forward
        return {"query": (D, D, self.query_groups), "key": (D, D, self.key_groups), "value": (D, D, self.value_groups),
                "attention output": (D, D, self.attention_output_groups),
                "inner": (D, F, self.inner_groups), "outer": (F, D, self.outer_groups)}


# name: (layers, hidden, heads, feed-forward, vocabulary, paper)
PUBLISHED = {"squeezebert": (12, 768, 12, 3072, 30522, "Iandola et al. 2020")}


class GroupedSelfAttention(SelfAttention):
    """Multi-head self-attention whose four maps are in groups. Shapes: x (B, T, D), per head (B, A, T, K)."""

    def __init__(self, config):
        maps = config.maps()
        self.query = GroupedLinear(*maps["query"])
        self.key = GroupedLinear(*maps["key"])
        self.value = GroupedLinear(*maps["value"])
        self.output = GroupedLinear(*maps["attention output"])
        self.dropout = Dropout(config.attention_dropout)
        self.heads = config.heads

    def project(self, x):
        """queries, keys, values, each (B, A, T, K)."""
        B, T, D = x.shape
        return tuple(projection(x).reshape(B, T, self.heads, D // self.heads).transpose(0, 2, 1, 3)
                     for projection in (self.query, self.key, self.value))


class GroupedFeedForward(FeedForward):
    """act(x W1 + b1) W2 + b2, both maps in groups. Shapes: D -> F -> D."""

    def __init__(self, config):
        self.inner = GroupedLinear(*config.maps()["inner"])
        self.outer = GroupedLinear(*config.maps()["outer"])
        self.activation = config.activation


class SqueezeBertLayer(EncoderLayer):
    """BERT's layer, with the parts above."""

    def __init__(self, config):
        self.attention = GroupedSelfAttention(config)
        self.attention_dropout = Dropout(config.dropout)
        self.attention_norm = LayerNorm(config.hidden, config.eps)
        self.feed_forward = GroupedFeedForward(config)
        self.feed_forward_dropout = Dropout(config.dropout)
        self.feed_forward_norm = LayerNorm(config.hidden, config.eps)


class SqueezeBert(Bert):
    """batch -> Features, as Bert does it. Shapes: B sequences of T tokens; see Features."""

    @staticmethod
    def layer(config, l):
        return SqueezeBertLayer(config)


def parameter_count(config):
    """Exact counts by part: a BERT's, but for the layers, where a map from D to F in G groups has D F / G + F.

    >>> config = SqueezeBertConfig(12, 768, 12, 3072)
    >>> parameter_count(config)["transformer"] // 12, parameter_count(config)["total"]
    (2221824, 51089664)
    """
    parts = bert.parameter_count(config)
    layer = sum(inputs * outputs // groups + outputs for inputs, outputs, groups in config.maps().values())
    parts["transformer"] = config.layers * (layer + 4 * config.hidden)
    return parts | {"total": sum(count for part, count in parts.items() if part != "total")}


def forward_flops(config, length, predicted=0.0):
    """2 x multiply-accumulates of one forward's matrix products for one sequence of `length` tokens, as for a Bert.

    A layer: 2T D F / G for each of its maps, 4T^2 D for scores and context.
    """
    D, T = config.hidden, length
    maps = sum(inputs * outputs // groups for inputs, outputs, groups in config.maps().values())
    return config.layers * (2 * T * maps + 4 * T * T * D) + 2 * T * predicted * D * (D + config.vocabulary)


architecture = Architecture(
    "Iandola et al. 2020", SqueezeBertConfig, SqueezeBert, parameter_count, forward_flops,
    published={name: Size(SqueezeBertConfig(*row[:5]), row[-1]) for name, row in PUBLISHED.items()},
    sized={"squeezebert": sized(SqueezeBertConfig)})
