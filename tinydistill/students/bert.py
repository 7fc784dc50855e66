"""BERT of any size (Devlin et al. 2019): embeddings, post-norm encoder, pooler, heads.

The teacher of every method and the student of most: MiniLM, TinyBERT, PKD and Turc change its size only.
"""

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features
from tinydistill.nn import Dropout, Embedding, EncoderLayer, LayerNorm, Linear, Module
from tinydistill.nn.layers import number_dropouts
from tinydistill.students.configs import READ_POOLED
from tinydistill.students.encode import encode
from tinydistill.students.heads import MaskedLanguageHead, PretrainingHead, SequenceHead, TokenHead


class BertEmbeddings(Module):
    """LN(word + position + token type). Shapes: ids (B, T) -> (B, T, D)."""

    def __init__(self, config):
        self.word = Embedding(config.vocabulary, config.hidden)
        self.position = Embedding(config.positions, config.hidden)
        self.token_type = Embedding(config.token_types, config.hidden)
        self.norm = LayerNorm(config.hidden, config.eps)

    def __call__(self, ids, token_types):
        xp = xp_of(ids)
        if ids.shape[1] > self.position.weight.shape[0]:
            raise WrongUsage(f"need at most {self.position.weight.shape[0]} tokens a sequence, got {ids.shape[1]}")
        positions = self.position(xp.arange(ids.shape[1]))                              # (T, D)
        types = self.token_type(xp.zeros(1, ids.dtype) if token_types is None else token_types)
        return self.norm(self.word(ids) + positions + types)


class Bert(Module):
    """batch -> Features, no further than `run.needs` asks.

    Shapes: B sequences of T tokens; see Features. `logits` come from the head of the configuration: masked-lm and token
    heads read the batch's `positions` (all positions where it has none), a sequence head reads the pooled [CLS].
    """

    def __init__(self, config, seed=0):
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.embedding_dropout = Dropout(config.dropout)
        self.layers = [EncoderLayer(config.hidden, config.heads, config.feed_forward, config.eps,
                                    config.dropout, config.attention_dropout) for _ in range(config.layers)]
        if config.pooler:
            self.pooler = Linear(config.hidden, config.hidden)
        if config.head != "none":
            self.head = {"masked-lm": MaskedLanguageHead, "pretraining": PretrainingHead, "sequence": SequenceHead,
                         "token": TokenHead}[config.head](config)
        number_dropouts(self)
        if seed is not None:                        # None: whoever builds it fills it
            self.initialise(seed, config.initial_std)

    def __call__(self, batch, run):
        needs, features = run.needs, Features(str(self.config), len(self.layers), batch.mask)
        embeddings = self.embeddings(batch.ids, batch.token_types)
        x = encode(self.layers, self.embedding_dropout(embeddings, run), features, run)
        reads_pooled = "next_sentence" in needs or ("logits" in needs and self.config.head == "sequence")
        pooled = self.pool(x) if "pooled" in needs or reads_pooled else None
        logits = self.logits(x, pooled, batch, run) if "logits" in needs else None
        next_sentence = self.next_sentence(pooled) if "next_sentence" in needs else None
        return features.has(embeddings=embeddings, pooled=pooled, logits=logits, next_sentence=next_sentence)

    def pool(self, x):
        """tanh(h_[CLS] W + b). Shapes: (B, T, D) -> (B, D)."""
        if not self.config.pooler:
            raise Problem(f"need pooled, which {self.config} without a pooler cannot have")
        return ops.tanh(self.pooler(x[:, 0]))

    def next_sentence(self, pooled):
        """(B, 2): does the second sentence follow (class 0), or come from elsewhere (class 1)."""
        if self.config.head != "pretraining":
            raise Problem(f"need next_sentence, which {self.config} without a pretraining head cannot have")
        return self.head.next_sentence(pooled)

    def logits(self, x, pooled, batch, run):
        """(N, V) or (N, C) at the batch's positions, or (B, C) for a sequence head."""
        if self.config.head == "none":
            raise Problem(f"need logits, which {self.config} without a head cannot have")
        if self.config.head == "sequence":
            return self.head(pooled, run)
        if self.config.head == "token":
            return self.head(x, batch.positions, run)
        return self.head(x, batch.positions, self.embeddings.word.weight)


def with_head(body, head, labels=(), seed=0):
    """The model with this head: as it is where it has it, else the same body with a fresh head drawn by `seed`.

    A head that reads a pooler draws it too, where the body has none.
    """
    config = body.config.but(head=head, labels=tuple(labels), pooler=body.config.pooler or head in READ_POOLED)
    if config == body.config:
        return body
    like = body.parameters()[0].array
    model = Bert(config, seed).to(xp_of(like), like.dtype)
    kept = {name: array for name, array in body.arrays().items() if not name.startswith("head.")}
    return model.load(model.arrays() | kept)


def parameter_count(config):
    """Exact counts by part, from the configuration alone: nothing is built.

    A layer of width D with feed-forward width F has 4D^2 + 4D (attention) + 2DF + F + D (feed-forward) + 4D (norms).
    """
    D, F = config.hidden, config.feed_forward
    layer = 4 * D * D + 4 * D + 2 * D * F + F + D + 4 * D
    head = {"none": 0, "masked-lm": D * D + D + 2 * D + config.vocabulary,
            "pretraining": D * D + D + 2 * D + config.vocabulary + 2 * (D + 1),
            "sequence": len(config.labels) * (D + 1), "token": len(config.labels) * (D + 1)}[config.head]
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
