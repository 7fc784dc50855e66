"""BERTVision (Jiang et al. 2022): a small head that reads every hidden state of a frozen BERT, layers being channels.

    x_l            what a token is after layer l, x_0 its embedding: L+1 channels of width D
    pooled[k, l] = gelu(x_l W + c)_k                    D -> d: one W and one c for all layers and tokens
    logits       = pooled W' + c'                       pooled flat, at k (L+1) + l

A span head reads each token by itself (D -> 2: start and end); a head of a sequence reads all `length` tokens at once,
at t d (L+1) + k (L+1) + l, and so has weights of its own for each position. `skip` puts x_L beside what was pooled.
`pooling` "mean" and "learned" make one channel of all before the pooler: 1/(L+1) sum_l x_l, or
t sum_l softmax(w)_l x_l; published where [CLS] alone is read of the tokens, `reads="first"`. Trained is the head alone.

Traps
  - The number of parameters is that of the head. Whoever uses it needs the whole fine-tuned BERT besides.
  - A head of a sequence reads padded positions: what a BERT makes of [PAD], which no token sees. Rows are padded to
    `length` here, whatever the batch; a longer row is refused.
  - Unlike Houlsby's adapter the pooler has no way around it and no map back to D.
  - Published PyTorch code has gelu in its exact form, and the weights of torch.nn.Linear (whose biases are drawn, too;
    here they begin at 0); published TensorFlow code the tanh form, and a truncated normal of deviation 1e-3 for W. Its
    learned pooling draws w from N(0, 0.05^2); here it begins as the mean.

Source: cbenge509/BERTVision (torch: AdapterPooler, AP_GLUE; tensorflow: BertConcat, MeanConcat, AdapterPooler).
"""

import copy
from dataclasses import dataclass, replace

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.nn import Linear, Module
from tinydistill.nn.initial import truncated_normal, uniform
from tinydistill.nn.layers import activated, parameter
from tinydistill.students import bert
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.bert import Bert
from tinydistill.students.configs import BertConfig, sized
from tinydistill.tensor import Tensor, no_grad

CHOICES = {"pooling": ("none", "mean", "learned"), "reads": ("all", "first"), "pooler_activation": ("gelu", "gelu_new"),
           "pooler_initial": ("uniform", "truncated")}
TRUNCATED_STD = 1e-3


@dataclass(frozen=True)
class BertVisionConfig(BertConfig):
    """The shape of the frozen BERT, and what reads it."""

    pooler: bool = False                            # BERT's own, which nobody reads here
    pooler_width: int = 128                         # d
    length: int = 128                               # tokens that a head of a sequence reads
    skip: bool = False
    pooling: str = "none"                           # of the layers, before the pooler
    reads: str = "all"                              # tokens that a head of a sequence reads; "first": [CLS] alone
    pooler_activation: str = "gelu"
    pooler_initial: str = "uniform"                 # how W is drawn: as torch.nn.Linear's, or "truncated"
    title, model_type = "BERT-Vision", "bertvision"
    heads_known = ("none", "sequence", "span")
    read_pooled = ()
    features = ("logits",)                          # the rest is its body's, as it is
    takes_body = True                               # its teacher's: see `bodies.on_body`

    def __post_init__(self):
        super().__post_init__()
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise WrongUsage(f"need {name} out of {', '.join(known)}; got {getattr(self, name)!r}")
        if self.pooler:
            raise WrongUsage("need a BERT-Vision without BERT's pooler, which it does not read")
        if self.pooler_width < 1 or not 1 <= self.length <= self.positions:
            raise WrongUsage(f"need a pooler at least 1 wide and a length from 1 to the body's {self.positions} "
                             f"positions: pooler_width {self.pooler_width}, length {self.length}")

    @property
    def channels(self):
        """What the pooler reads of each token: its embedding and L hidden states, or one pooling of them."""
        return self.layers + 1 if self.pooling == "none" else 1

    @property
    def token_width(self):
        """What is made of each token."""
        return self.pooler_width * self.channels + self.hidden * self.skip

    @property
    def outputs(self):
        return 2 if self.head == "span" else len(self.labels)

    @property
    def padded_length(self):
        """The length that every row is padded to, or None where it may have any."""
        return self.length if (self.head, self.reads) == ("sequence", "all") else None

    @property
    def longest(self):
        """How many tokens a sequence may have."""
        return self.padded_length or self.positions

    @property
    def frozen_needs(self):
        """What the head reads of the body: what a cache of the teacher has to hold."""
        return Needs.of(embeddings=True, hidden=range(self.layers))


# name: BertVisionConfig's arguments
BASE = {"layers": 12, "hidden": 768, "heads": 12, "feed_forward": 3072}
LARGE = {"layers": 24, "hidden": 1024, "heads": 16, "feed_forward": 4096}
PUBLISHED = {
    "bertvision": BASE,
    "bertvision-qnli": BASE | {"pooler_width": 32, "length": 121},
    "bertvision-rte": BASE | {"pooler_width": 8, "length": 250},
    "bertvision-sst": BASE | {"pooler_width": 32},
    "bertvision-mrpc": BASE | {"pooler_width": 16},
    "bertvision-squad": BASE | {"pooler_width": 384, "length": 384},
    "bertvision-squad-large": LARGE | {"pooler_width": 386, "length": 386},
}


class LayerMix(Module):
    """t sum_l softmax(w)_l x_l. Shapes: (B, T, L, D) -> (B, T, 1, D)."""

    def __init__(self, layers):
        self.weight = parameter((layers,))
        self.scale = parameter((1,), fill=1.0)

    def __call__(self, x):
        return ops.matmul(ops.softmax(self.weight).reshape(1, -1), x) * self.scale      # (1, L) @ (B, T, L, D)


class AdapterPooler(Module):
    """gelu(x_l W + c) for every layer by the same W and c. Shapes: (B, T, L, D) -> (B, T, d L), index k L + l."""

    def __init__(self, config):
        self.dense = Linear(config.hidden, config.pooler_width)
        self.activation = config.pooler_activation

    def __call__(self, x):
        y = activated(self.dense, x, self.activation).transpose(0, 1, 3, 2)             # (B, T, d, L)
        return y.reshape(*y.shape[:2], -1)                                              # (B, T, d L)


class PooledHead(Module):
    """logits from all layers of a body. Shapes: x (B, T, L, D) -> (B, C), or (B, T, 2) for spans."""

    def __init__(self, config):
        if config.pooling == "learned":
            self.mix = LayerMix(config.layers + 1)
        self.pooler = AdapterPooler(config)
        tokens = config.padded_length or 1
        self.classifier = Linear(tokens * config.token_width, config.outputs)
        self.config = config

    def __call__(self, x):
        channels, skip = x, x[:, :, -1]                                                 # (B, T, D): the last layer
        if self.config.pooling == "learned":
            channels = self.mix(x)
        elif self.config.pooling == "mean":
            channels = x.mean(axis=2, keepdims=True)
        y = self.pooler(channels)
        if self.config.skip:
            y = ops.concatenate(y, skip, axis=-1)
        if self.config.head == "sequence":
            y = y.reshape(y.shape[0], -1)                                               # (B, T W)
        return self.classifier(y)


class BertVision(Bert):
    """batch -> Features: those of the frozen body, without dropout, and the logits of the head on all of them.

    Shapes: B sequences of T tokens; see Features. Where a head of a sequence reads all tokens, T is the configuration's
    `length`, whatever that of the batch. Gradient: the head alone.
    Raises: WrongUsage for rows longer than that.
    """

    HEADS = {"sequence": PooledHead, "span": PooledHead}
    frozen = None                                   # what computes the body's features in its place

    def reading(self, teacher):
        """The same model, its parameters shared, that asks `teacher(batch, run)` for what its own body would compute.

        teacher: a model with the same body, or a cache of one: then training the head is reading files. None: its own.
        Raises: WrongUsage where the teacher's body has other weights.
        """
        reader = copy.copy(self)
        reader.frozen = None
        if teacher is not None:
            theirs = teacher.named_parameters()
            for name, own in self.named_parameters().items():
                if not name.startswith("head.") and not (own.array == theirs[name].array).all():
                    raise WrongUsage(f"need a student on the body of its teacher, but {name} has other weights there: "
                                     f"leave out --start, and a --student that has been trained on another")
            reader.frozen = teacher.__call__        # a function: what is no module has no parameters here
        return reader

    def __call__(self, batch, run):
        if self.config.head == "none" or "logits" not in run.needs:
            return self.body(batch, run.needs)
        if self.config.padded_length:
            batch = padded(batch, self.config.padded_length, self.config.pad_id)
        features = self.body(batch, Needs(run.needs.wanted - {("logits", None)}) | self.config.frozen_needs)
        return features.has(embeddings=features.embeddings, pooled=features.pooled,
                            logits=self.head(self.stacked(features)))

    def body(self, batch, needs):
        """The features of the frozen body: its own, or what stands in its place."""
        with no_grad():
            return (self.frozen or super().__call__)(batch, Pass(needs))

    def stacked(self, features):
        """Every state of the tokens that the head reads, the embedding first. Shapes: (B, T, L+1, D)."""
        tokens = slice(1) if (self.config.head, self.config.reads) == ("sequence", "first") else slice(None)
        states = [features.embeddings, *(features.hidden[l] for l in range(self.config.layers))]
        xp = xp_of(features.embeddings.array)
        return Tensor(xp.stack([state.array[:, tokens] for state in states], axis=2))

    def initialise(self, seed, std, prefixes=("",)):
        """The body as a Bert, the head as published code draws it."""
        super().initialise(seed, std, prefixes)
        inside = [name for name in ("head.pooler", "head.classifier") if name.startswith(tuple(prefixes))]
        super().initialise(seed, 1.0, inside, uniform)
        if self.config.pooler_initial == "truncated":
            super().initialise(seed, TRUNCATED_STD, inside[:1], truncated_normal)
        return self


def padded(batch, length, pad_id):
    """The batch with every row padded to `length` tokens. Raises: WrongUsage where one is longer."""
    B, T = batch.ids.shape
    if T > length:
        raise WrongUsage(f"need at most {length} tokens a sequence, got {T}: give --max-length {length}")
    xp = xp_of(batch.ids)

    def widened(x, fill):
        return None if x is None else xp.concatenate([x, xp.full((B, length - T), fill, x.dtype)], axis=1)
    return replace(batch, ids=widened(batch.ids, pad_id), mask=widened(batch.mask, False),
                   token_types=widened(batch.token_types, 0))


def parameter_count(config):
    """Exact counts by part, from the configuration alone: a BERT's body, frozen, and the trained head.

    The pooler has d D + d, its classifier C inputs + C, a learned pooling of the layers L + 2.

    >>> config = BertVisionConfig(12, 768, 12, 3072, head="sequence", labels=("a", "b"))
    >>> parameter_count(config)["trained head"]
    524418
    >>> round(109_483_778 / _, 2)                   # a BERT base with its classifier
    208.77
    """
    parts, d = bert.parameter_count(config.but(head="none")), config.pooler_width
    head = 0
    if config.head != "none":
        inputs = (config.padded_length or 1) * config.token_width
        mix = config.layers + 2 if config.pooling == "learned" else 0
        head = mix + d * config.hidden + d + config.outputs * (inputs + 1)
    del parts["head"], parts["total"]
    parts["trained head"] = head
    return parts | {"total": sum(parts.values())}


def forward_flops(config, length):
    """2 x multiply-accumulates of one forward's matrix products for one sequence of `length` tokens: body and head."""
    T = config.padded_length or length
    read = 1 if (config.head, config.reads) == ("sequence", "first") else T
    body, D = bert.forward_flops(config, T), config.hidden
    if config.head == "none":
        return body
    mix = (config.layers + 1) * D if config.pooling == "learned" else 0
    classifier = config.token_width * config.outputs
    return body + 2 * read * (mix + config.channels * D * config.pooler_width + classifier)


architecture = Architecture(
    "Jiang et al. 2022", BertVisionConfig, BertVision, parameter_count, forward_flops,
    published={name: Size(BertVisionConfig(**shape), "Jiang et al. 2022", "trained")
               for name, shape in PUBLISHED.items()},
    sized={"bertvision": sized(BertVisionConfig)})
