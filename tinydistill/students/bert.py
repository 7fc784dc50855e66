"""BERT of any size (Devlin et al. 2019): embeddings, post-norm encoder, pooler, heads.

The teacher of every method and the student of most: MiniLM, TinyBERT, PKD and Turc change its size only.
"""

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features
from tinydistill.nn import Dropout, Embedding, EncoderLayer, LayerNorm, Linear, Module
from tinydistill.nn.layers import number_dropouts
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.configs import PUBLISHED, BertConfig, sized
from tinydistill.students.encode import encode
from tinydistill.students.heads import MaskedLanguageHead, PretrainingHead, SequenceHead, SpanHead, TokenHead


class BertEmbeddings(Module):
    """LN(word + position + token type), without the last where there are none. Shapes: ids (B, T) -> (B, T, D)."""

    def __init__(self, config):
        self.word = Embedding(config.vocabulary, config.hidden)
        self.position = Embedding(config.positions, config.hidden)
        if config.token_types:
            self.token_type = Embedding(config.token_types, config.hidden)
        self.norm = LayerNorm(config.hidden, config.eps)

    def __call__(self, ids, token_types, position_ids=None):
        xp, T, rows = xp_of(ids), ids.shape[1], self.position.weight.shape[0]
        if position_ids is None and T > rows:
            raise WrongUsage(f"need at most {rows} tokens a sequence, got {T}")
        position_ids = xp.arange(T) if position_ids is None else position_ids           # (T,) or (B, T)
        x = self.words(ids) + self.position(position_ids)                               # (B, T, D) + ([B,] T, D)
        if hasattr(self, "token_type"):
            x = x + self.token_type(xp.zeros(1, ids.dtype) if token_types is None else token_types)
        return self.norm(x)

    def words(self, ids):
        """What stands for the words alone, (B, T, D)."""
        return self.word(ids)


class Bert(Module):
    """batch -> Features, no further than `run.needs` asks.

    Shapes: B sequences of T tokens; see Features. `logits` come from the head of the configuration: masked-lm and token
    heads read the batch's `positions` (all positions where it has none), a sequence head reads the pooled [CLS].
    """

    EMBEDDINGS = BertEmbeddings
    HEADS = {"masked-lm": MaskedLanguageHead, "pretraining": PretrainingHead, "sequence": SequenceHead,
             "token": TokenHead, "span": SpanHead}

    def __init__(self, config, seed=0):
        self.config = config
        self.embeddings = self.EMBEDDINGS(config)
        self.embedding_dropout = Dropout(config.dropout)
        self.layers = [self.layer(config, l) for l in range(config.layers)]
        if config.pooler:
            self.pooler = Linear(config.hidden, config.hidden)
        if config.head != "none":
            self.head = self.HEADS[config.head](config)
        number_dropouts(self)
        if seed is not None:                        # None: whoever builds it fills it
            self.draw(seed)

    def draw(self, seed, prefixes=("",)):
        """Draw the initial weights; prefixes: only of parameters whose names begin with one of these."""
        self.initialise(seed, self.config.initial_std, prefixes)

    @staticmethod
    def layer(config, l):
        """Layer l, counted from 0."""
        return EncoderLayer(config.hidden, config.heads, config.feed_forward, config.eps, config.dropout,
                            config.attention_dropout, config.activation)

    def __call__(self, batch, run):
        needs, features = run.needs, Features(str(self.config), len(self.layers), batch.mask)
        embeddings = self.embeddings(batch.ids, batch.token_types, batch.position_ids)
        x = encode(self.layers, self.embedding_dropout(embeddings, run), features, run, batch.attention_mask)
        pooled = self.pool(x) if "pooled" in needs else None
        logits = self.logits(x, batch, run) if "logits" in needs else None
        next_sentence = self.next_sentence(x) if "next_sentence" in needs else None
        return features.has(embeddings=embeddings, pooled=pooled, logits=logits, next_sentence=next_sentence)

    def pool(self, x):
        """tanh(h_[CLS] W + b). Shapes: (B, T, D) -> (B, D)."""
        if not self.config.pooler:
            raise Problem(f"need pooled, which {self.config} without a pooler cannot have")
        return ops.tanh(self.pooler(x[:, 0]))

    def summary(self, x):
        """What a sequence head reads: the pooled [CLS]. Shapes: (B, T, D) -> (B, D)."""
        return self.pool(x)

    def next_sentence(self, x):
        """(B, 2): does the second sentence follow (class 0), or come from elsewhere (class 1)."""
        if self.config.head != "pretraining":
            raise Problem(f"need next_sentence, which {self.config} without a pretraining head cannot have")
        return self.head.next_sentence(self.pool(x))

    def logits(self, x, batch, run):
        """(N, V) or (N, C) at the batch's positions, (B, C) for a sequence head, (B, T, 2) for spans."""
        if self.config.head == "none":
            raise Problem(f"need logits, which {self.config} without a head cannot have")
        if self.config.head == "sequence":
            return self.head(self.summary(x), run)
        if self.config.head == "token":
            return self.head(x, batch.positions, run)
        if self.config.head == "span":
            return self.head(x, run)
        return self.head(x, batch.positions, self.embeddings.word.weight)


def parameter_count(config):
    """Exact counts by part, from the configuration alone: nothing is built.

    A layer of width D with feed-forward width F has 4D^2 + 4D (attention) + 2DF + F + D (feed-forward) + 4D (norms).
    """
    D, F = config.hidden, config.feed_forward
    layer = 4 * D * D + 4 * D + 2 * D * F + F + D + 4 * D
    words = D * D + D + 2 * D + config.vocabulary + (0 if config.tied else config.vocabulary * D)
    classes = len(config.labels) * (D + 1)
    sequence = classes + (config.sequence_layers - 1) * (D * D + D)
    head = {"none": 0, "masked-lm": words, "pretraining": words + 2 * (D + 1), "sequence": sequence, "token": classes,
            "span": 2 * (D + 1)}[config.head]
    parts = {
        "word embeddings": config.vocabulary * D,
        "other embeddings": (config.positions + config.token_types + 2) * D,
        "transformer": config.layers * layer,
        "pooler": (D * D + D) if config.pooler else 0,
        "head": head,
    }
    return parts | {"total": sum(parts.values())}


def forward_flops(config, length, predicted=0.0):
    """2 x multiply-accumulates of one forward's matrix products for one sequence of `length` tokens.

    A layer: 2T (4D^2 + 2DF) for its maps, 4T^2 D for scores and context. `predicted`: the share of the tokens that a
    masked-lm head reads, 2D (D + V) each. A backward costs twice as much again.
    """
    D, F, T = config.hidden, config.feed_forward, length
    layer = 2 * T * (4 * D * D + 2 * D * F) + 4 * T * T * D
    return config.layers * layer + 2 * T * predicted * D * (D + config.vocabulary)


def _counted(name, paper):
    """As the paper's tables count: MiniLM's word embeddings and layers, Turc's and TinyBERT-4's with the heads."""
    if name.startswith("turc") or name == "tinybert-4x312":
        return "with pre-training heads"
    return "words and layers" if name.startswith("minilm") else "with pooler"


architecture = Architecture(
    "Devlin et al. 2019", BertConfig, Bert, parameter_count, forward_flops,
    published={name: Size(BertConfig(*row[:5]), row[-1], _counted(name, row[-1])) for name, row in PUBLISHED.items()},
    sized={"": sized(BertConfig)})
