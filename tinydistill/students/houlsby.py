"""AdapterBERT (Houlsby et al. 2019): two small bottlenecks in every layer of a BERT, which is otherwise left as it was.

    adapter(z) = z + gelu(z W1 + b1) W2 + b2                                    D -> m -> D
    h = LN(x + adapter(dropout(attention(x))))        y = LN(h + adapter(dropout(feed_forward(h))))

Trained are the adapters, every layer norm (that of the embeddings, too) and the head. The rest is frozen, the pooler's
dense layer included. An adapter begins near the identity: W1 and W2 are drawn from a normal distribution of deviation
1e-3, cut off at twice that, and biases are 0.

Traps
  - the adapter stands before the residual sum and the layer norm, and behind the dropout: one placed behind the norm is
    another model
  - it has a sum of its own, z + ..., beside that of the layer
  - its gelu is the tanh form, whatever the body's is
  - it makes no model smaller: it adds parameters. What is small is the part that each task has for itself

Source: google-research/adapter-bert modeling.py.
"""

from dataclasses import dataclass

from tinydistill import ops
from tinydistill.errors import WrongUsage
from tinydistill.nn import EncoderLayer, Linear, Module
from tinydistill.nn.initial import truncated_normal
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig, sized

ADAPTER_STD = 1e-3


@dataclass(frozen=True)
class AdapterBertConfig(BertConfig):
    """The shape of a BERT, and the width m of its adapters."""

    bottleneck: int = 64
    title, model_type = "AdapterBERT", "adapterbert"
    takes_body = True                               # its teacher's: see `bodies.on_body`

    def __post_init__(self):
        super().__post_init__()
        if self.bottleneck < 1:
            raise WrongUsage(f"need a bottleneck of at least 1, got {self.bottleneck}")


# name: (layers, hidden, heads, feed-forward, m); Houlsby et al. 2019
PUBLISHED = {"adapterbert": (12, 768, 12, 3072, 64), "adapterbert-large": (24, 1024, 16, 4096, 64)}


class Adapter(Module):
    """z + gelu(z W1 + b1) W2 + b2. Shapes: (B, T, D) -> (B, T, D)."""

    def __init__(self, width, bottleneck):
        self.down = Linear(width, bottleneck)
        self.up = Linear(bottleneck, width)

    def __call__(self, z):
        return z + self.up(ops.gelu_new(self.down(z)))


class AdapterLayer(EncoderLayer):
    """BERT's layer with an adapter on what either half gives to the residual sum."""

    def __init__(self, config):
        super().__init__(config.hidden, config.heads, config.feed_forward, config.eps, config.dropout,
                         config.attention_dropout, config.activation)
        self.attention_adapter = Adapter(config.hidden, config.bottleneck)
        self.feed_forward_adapter = Adapter(config.hidden, config.bottleneck)

    def __call__(self, x, queries, keys, values, mask, run):
        attended = self.attention_dropout(self.attention.attend(queries, keys, values, mask, run), run)
        h = self.attention_norm(self.attention_adapter(attended), x)
        fed = self.feed_forward_dropout(self.feed_forward(h), run)
        return self.feed_forward_norm(self.feed_forward_adapter(fed), h)


class AdapterBert(Bert):
    """batch -> Features, as Bert does it. Shapes: B sequences of T tokens; see Features."""

    @staticmethod
    def layer(config, l):
        return AdapterLayer(config)

    def initialise(self, seed, std, prefixes=("",)):
        """As a Bert, and the adapters near the identity."""
        super().initialise(seed, std, prefixes)
        adapters = (name for name, module in self.named_modules() if isinstance(module, Adapter))
        return super().initialise(seed, ADAPTER_STD, [n for n in adapters if n.startswith(tuple(prefixes))],
                                  truncated_normal)


def is_trained(name):
    """Whether a parameter is trained, by its name: adapters, layer norms and the head are."""
    return "adapter." in name or "norm." in name or name.startswith("head.")


def parameter_count(config):
    """Exact counts by part, from the configuration alone: an adapter has 2mD + m + D.

    >>> parts = parameter_count(AdapterBertConfig(12, 768, 12, 3072, head="sequence", labels=("a", "b")))
    >>> [count for part, count in parts.items() if part.startswith("trained")]
    [2379264, 38400, 1538]
    >>> sum(_), parts["total"]
    (2419202, 111863042)
    """
    parts, D, m = bert.parameter_count(config), config.hidden, config.bottleneck
    parts["other embeddings"] -= 2 * D              # its layer norm
    parts["transformer"] -= config.layers * 4 * D   # two in each layer
    parts |= {"trained adapters": config.layers * 2 * (2 * m * D + m + D),
              "trained norms": (1 + 2 * config.layers) * 2 * D, "trained head": parts.pop("head")}
    del parts["total"]
    return parts | {"total": sum(parts.values())}


def forward_flops(config, length, predicted=0.0):
    """2 x multiply-accumulates of one forward's matrix products for one sequence of `length` tokens.

    A BERT's and, for the two adapters of a layer, 8T m D.
    """
    adapters = config.layers * 8 * length * config.bottleneck * config.hidden
    return bert.forward_flops(config, length, predicted) + adapters


architecture = Architecture(
    "Houlsby et al. 2019", AdapterBertConfig, AdapterBert, parameter_count, forward_flops,
    published={name: Size(AdapterBertConfig(*row[:4], bottleneck=row[4]), "Houlsby et al. 2019", "trained")
               for name, row in PUBLISHED.items()},
    sized={"adapterbert": sized(AdapterBertConfig)})
