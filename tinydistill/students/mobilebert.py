"""MobileBERT and its teacher IB-BERT (Sun et al. 2020): blocks of 512 at both ends, narrow or wide within.

    embeddings:  x = Norm([e_{t+1}, e_t, e_{t-1}] W + type + position)          e of width E = 128, zeros outside
    block:       r = Norm(x W_in)                                               H -> D: the residual stream of the block
                 h = Norm(attention(queries and keys of s, values of v) + r)    s, v by `attention_input`
                 h = Norm(act(h W_1) W_2 + h)                                   `feed_forwards` times
                 y = Norm(h W_out + x)                                          D -> H

`attention_input`: "shared" (MobileBERT) s = Norm(x W_s) and v = x; "bottleneck" (tiny) s = v = r; "block" (IB-BERT)
s = v = x. Norm is NoNorm, gamma * z + beta, or for IB-BERT a layer norm. The masked-lm head has a layer norm in all of
them, and beside each word's embedding (E) the H - E further numbers that its decoder needs.

Traps
  - Padding. The last real token reads the embedding of what stands behind it: [PAD], or zeros where the batch ends.
    So a sequence has other features with padding than without, unless [PAD] is embedded as zeros. transformers starts
    it there and never gives it a gradient; here it is a word like any other. Attention itself never sees padding.
  - Masked scores. Published code first added -10000, then multiplied by the mask and added -6, which leaves a padded
    key e^-6 of the weight: `mask_value=-6`. None masks entirely, as transformers does.
  - eps. Here it is 1e-12 everywhere (published code's is unverified). transformers has 1e-5 in the layer norms behind
    the embeddings and behind a block's last feed-forward, `layer_norm_eps` in the others: that is `outer_eps=1e-5`.
  - Queries and keys of the paper's table read the 512 (unverified), those of the released model the shared bottleneck.

Parameters without pooler and head, exactly: MobileBERT 24,581,888, with "block" 25,359,104; tiny 15,485,696; IB-BERT
294,205,184. Published are 25.3M, 15.1M and 293M, which no one rule of what to count reproduces: not checked against.
Source: google-research/google-research mobilebert/modeling.py and config/*.json.
"""

from dataclasses import dataclass

from tinydistill import ops
from tinydistill.errors import WrongUsage
from tinydistill.nn import Dropout, Embedding, LayerNorm, Linear, Module, NoNorm, SelfAttention
from tinydistill.nn.layers import activated
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.bert import Bert, BertEmbeddings
from tinydistill.students.configs import OF_WORDS, BertConfig, require_head
from tinydistill.students.heads import SplitDecoderHead

CHOICES = {"attention_input": ("shared", "bottleneck", "block"), "norm": ("no_norm", "layer_norm"),
           "activation": ("relu", "relu6", "gelu_new", "gelu")}     # activations by the names of their ops


@dataclass(frozen=True)
class MobileBertConfig(BertConfig):
    """What a BERT has, `hidden` being the width between blocks; the defaults are those of MobileBERT."""

    dropout: float = 0.0
    pooler: bool = False                            # without one, pooled is the last hidden state of [CLS] as it is
    embedding: int = 128                            # E
    bottleneck: int = 128                           # D, which the heads divide
    feed_forwards: int = 4                          # a block, each D -> feed_forward -> D
    attention_input: str = "shared"
    activation: str = "relu"
    norm: str = "no_norm"
    outer_eps: float | None = None                  # None: eps
    mask_value: float | None = None                 # the score of a masked key; None: minus infinity

    title, model_type = "MobileBERT", "mobilebert"
    layer_kind = "MobileBERT's"
    read_pooled = ()

    def __post_init__(self):
        require_head(self)
        if self.head in OF_WORDS and not self.tied:
            raise WrongUsage(f"need a decoder tied to the word embeddings, as every MobileBERT has it, for a "
                             f"{self.head} head")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise WrongUsage(f"need {name} out of {', '.join(known)}; got {getattr(self, name)}")
        if self.bottleneck % self.heads:
            raise WrongUsage(f"need a bottleneck that the heads divide: {self.bottleneck} wide, {self.heads} heads")
        if not 0 < self.embedding < self.hidden:
            raise WrongUsage(f"need embeddings narrower than the hidden size: {self.embedding} of {self.hidden}")
        if self.feed_forwards < 1:
            raise WrongUsage(f"need at least one feed-forward a block, got {self.feed_forwards}")

    def __str__(self):                              # IB: inverted bottleneck, wider within the block than between
        return f"{'IB-BERT' if self.bottleneck > self.hidden else 'MobileBERT'} {self.layers}x{self.hidden}"


SHAPE = {"layers": 24, "hidden": 512, "heads": 4, "feed_forward": 512}
PUBLISHED = {                                       # name: MobileBertConfig's arguments; Sun et al. 2020
    "mobilebert": SHAPE,
    "mobilebert-tiny": SHAPE | {"feed_forwards": 2, "attention_input": "bottleneck"},
    "mobilebert-relu6": SHAPE | {"activation": "relu6"},            # for quantisation-aware training
    "ib-bert-large": SHAPE | {"feed_forward": 4096, "feed_forwards": 1, "bottleneck": 1024, "attention_input": "block",
                              "activation": "gelu_new", "norm": "layer_norm", "dropout": 0.1, "pooler": True},
}


def _norm(config, width, outer=False):
    if config.norm == "no_norm":
        return NoNorm(width)
    return LayerNorm(width, config.outer_eps if outer and config.outer_eps is not None else config.eps)


def _attention_inputs(config):
    """(bottlenecks a block, width of what queries and keys are made of, width of what values are made of)."""
    H, D = config.hidden, config.bottleneck
    return {"shared": (2, D, H), "bottleneck": (1, D, D), "block": (1, H, H)}[config.attention_input]


class MobileBertEmbeddings(BertEmbeddings):
    """Norm(trigram(word) W + b + position + token type). Shapes: ids (B, T) -> (B, T, H)."""

    def __init__(self, config):
        super().__init__(config)
        self.word = Embedding(config.vocabulary, config.embedding)
        self.widening = Linear(3 * config.embedding, config.hidden)
        self.norm = _norm(config, config.hidden, outer=True)

    def words(self, ids):
        """(B, T, E) -> (B, T, H)."""
        return self.widening(ops.trigram(self.word(ids)))


class Bottleneck(Module):
    """Norm(x W + b). Shapes: (B, T, H) -> (B, T, D)."""

    def __init__(self, config):
        self.dense = Linear(config.hidden, config.bottleneck)
        self.norm = _norm(config, config.bottleneck)

    def __call__(self, x):
        return self.norm(self.dense(x))


class BottleneckAttention(SelfAttention):
    """h = Norm(attention + r), of width D, from x of width H, with r = Norm(x W_in) the residual stream of the block.

    Queries and keys are made of a source, values of the same or of x: see `attention_input`.
    """

    def __init__(self, config):
        super().__init__(config.bottleneck, config.heads, config.attention_dropout)
        _, source, value_source = _attention_inputs(config)
        self.query = Linear(source, config.bottleneck)
        self.key = Linear(source, config.bottleneck)
        self.value = Linear(value_source, config.bottleneck)
        self.input = Bottleneck(config)
        if config.attention_input == "shared":
            self.shared = Bottleneck(config)
        self.norm = _norm(config, config.bottleneck)
        self.attention_input, self.mask_value = config.attention_input, config.mask_value

    def project(self, x):
        """queries, keys, values, each (B, A, T, K), and what queries and keys were made of."""
        B, T, A = *x.shape[:2], self.heads
        if self.attention_input == "shared":
            source, value_source = self.shared(x), x
        elif self.attention_input == "bottleneck":
            source = value_source = self.input(x)
        else:
            source = value_source = x
        projected = self.query(source), self.key(source), self.value(value_source)      # each (B, T, D)
        return *(y.reshape(B, T, A, y.shape[-1] // A).transpose(0, 2, 1, 3) for y in projected), source

    def attend(self, queries, keys, values, mask, run):
        """(B, A, T, K) three times -> (B, T, D). mask broadcasts against (B, A, T, T), True where a key may be seen."""
        if self.mask_value is None:
            return super().attend(queries, keys, values, mask, run)
        B, A, T, K = queries.shape
        scores = ops.masked(ops.scaled_product(queries, keys), mask=mask, fill=self.mask_value)
        context = self.dropout(ops.softmax(scores), run) @ values
        return self.output(context.transpose(0, 2, 1, 3).reshape(B, T, A * K))          # (B, T, D)

    def __call__(self, x, queries, keys, values, source, mask, run):
        """(B, T, H), and what `project(x)` made of it -> (B, T, D)."""
        r = source if self.attention_input == "bottleneck" else self.input(x)
        return self.norm(self.attend(queries, keys, values, mask, run), r)


class ResidualFeedForward(Module):
    """Norm(act(h W1 + b1) W2 + b2 + h). Shapes: D -> F -> D."""

    def __init__(self, config, last):
        self.inner = Linear(config.bottleneck, config.feed_forward)
        self.outer = Linear(config.feed_forward, config.bottleneck)
        self.norm = _norm(config, config.bottleneck, outer=last)
        self.activation = config.activation

    def __call__(self, h):
        return self.norm(self.outer(activated(self.inner, h, self.activation)), h)


class Block(Module):
    """One layer of the model: H -> D -> H."""

    def __init__(self, config):
        self.attention = BottleneckAttention(config)
        self.stacked = [ResidualFeedForward(config, last=False) for _ in range(config.feed_forwards - 1)]
        self.feed_forward = ResidualFeedForward(config, last=True)
        self.output = Linear(config.bottleneck, config.hidden)
        self.output_dropout = Dropout(config.dropout)
        self.output_norm = _norm(config, config.hidden)

    def __call__(self, x, queries, keys, values, source, mask, run):
        """y (B, T, H) from x (B, T, H) and what `attention.project(x)` made of it."""
        h = self.attention(x, queries, keys, values, source, mask, run)                 # (B, T, D)
        for feed_forward in [*self.stacked, self.feed_forward]:
            h = feed_forward(h)
        return self.output_norm(self.output_dropout(self.output(h), run), x)


class MobileBert(Bert):
    """batch -> Features, no further than `run.needs` asks, with the heads of BERT.

    Shapes: embeddings, hidden[l] (B, T, H), what blocks give; queries[l], keys[l], values[l] (B, A, T, D/A); pooled
    (B, H).
    """

    EMBEDDINGS = MobileBertEmbeddings
    HEADS = Bert.HEADS | {"masked-lm": SplitDecoderHead, "pretraining": SplitDecoderHead}

    @staticmethod
    def layer(config, l):
        return Block(config)

    def pool(self, x):
        """tanh(h_[CLS] W + b), or h_[CLS] where there is no pooler. Shapes: (B, T, H) -> (B, H)."""
        return ops.tanh(self.pooler(x[:, 0])) if self.config.pooler else x[:, 0]


def parameter_count(config):
    """Exact counts by part, from the configuration alone: nothing is built. A norm of either kind has 2D.

    >>> parameter_count(MobileBertConfig(**PUBLISHED["mobilebert"]))["total"]
    24581888
    """
    E, H, D, F, V = config.embedding, config.hidden, config.bottleneck, config.feed_forward, config.vocabulary
    bottlenecks, source, value_source = _attention_inputs(config)

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    block = bottlenecks * (linear(H, D) + 2 * D) \
        + 2 * linear(source, D) + linear(value_source, D) + linear(D, D) + 2 * D \
        + config.feed_forwards * (linear(D, F) + linear(F, D) + 2 * D) \
        + linear(D, H) + 2 * H
    words = linear(H, H) + 2 * H + V * (H - E) + V
    classes = linear(H, 2 if config.head == "span" else len(config.labels))
    parts = {
        "word embeddings": V * E,
        "other embeddings": (config.positions + config.token_types + 2) * H + linear(3 * E, H),
        "transformer": config.layers * block,
        "pooler": linear(H, H) if config.pooler else 0,
        "head": {"none": 0, "masked-lm": words, "pretraining": words + linear(H, 2)}.get(config.head, classes),
    }
    return parts | {"total": sum(parts.values())}


def forward_flops(config, length, predicted=0.0):
    """2 x multiply-accumulates of one forward's matrix products for one sequence of `length` tokens, as in `bert.py`.

    The trigram's 3EH count with the maps of the blocks; a masked-lm head reads the share `predicted` of the tokens.
    """
    E, H, D, T = config.embedding, config.hidden, config.bottleneck, length
    bottlenecks, source, value_source = _attention_inputs(config)
    maps = bottlenecks * H * D + 2 * source * D + value_source * D + D * D \
        + 2 * config.feed_forwards * D * config.feed_forward + D * H
    block = 2 * T * maps + 4 * T * T * D
    return 2 * T * 3 * E * H + config.layers * block + 2 * T * predicted * H * (H + config.vocabulary)


def _relative(name):
    """What `NAME-LxH` means: the published shape with every width in proportion to H, which is 512 there."""
    def of_size(layers, hidden, heads):
        published = PUBLISHED[name]
        widths = {"feed_forward": published["feed_forward"], "bottleneck": published.get("bottleneck", 128),
                  "embedding": 128}
        narrower = {width: max(1, value * hidden // 512) for width, value in widths.items()}
        return MobileBertConfig(**published | narrower | {"layers": layers, "hidden": hidden, "heads": heads or 4})
    return of_size


architecture = Architecture(
    "Sun et al. 2020", MobileBertConfig, MobileBert, parameter_count, forward_flops,
    published={name: Size(MobileBertConfig(**shape), "Sun et al. 2020", "without pooler")
               for name, shape in PUBLISHED.items()},
    sized={name.removesuffix("-large"): _relative(name) for name in PUBLISHED})
