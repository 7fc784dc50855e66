"""The bidirectional LSTM of Tang et al. 2019: word embeddings, one layer in both directions, a head. No Transformer.

    u = [h of the last token, h of the first token in reverse]          of a sentence, (2H,)
    logits = W' dropout(relu(W u + b)) + b'
    logits = W' relu(W [u, v, |u - v|, u * v] + b) + b'                 of a pair: one LSTM reads both sentences

Source: castorini/d-bert. A single sentence is all real tokens of the batch. A pair comes as `[CLS] a [SEP] b [SEP]`;
its sentences are cut out by token types, without the special tokens: so the LSTM sees a as it would see b, and equal
sentences have u = v. (Tang's sentences are words and have no special tokens.)
"""

from dataclasses import dataclass

import numpy as np

from tinydistill import ops
from tinydistill.backend import generator, stream, xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Features
from tinydistill.nn import BidirectionalLstm, Dropout, Embedding, Linear, Module
from tinydistill.nn.layers import number_dropouts
from tinydistill.students.architecture import Architecture, Size
from tinydistill.students.configs import Config, require_head

# How words are embedded: by tables whose rows stand side by side. "non-static" is "rand" that starts from word vectors.
EMBEDDINGS = {"rand": ("trained",), "non-static": ("trained",), "static": ("fixed",),
              "multichannel": ("trained", "fixed")}
EMBEDDING_BOUND = 0.25


@dataclass(frozen=True)
class BiLstmConfig(Config):
    """embedding: one of EMBEDDINGS; each of its tables has rows of `word_width`. hidden: H of one direction.
    feed_forward: the width between LSTM and classes. dropout: on that, for a single sentence; a pair has none.
    """

    hidden: int = 150
    feed_forward: int = 200
    embedding: str = "rand"
    word_width: int = 300
    vocabulary: int = 30522
    pair: bool = False
    dropout: float = 0.1
    pad_id: int = 0
    head: str = "none"                              # or "sequence"
    labels: tuple = ()                              # the classes' names

    title, model_type = "BiLSTM", "bilstm"
    layer_kind = "an LSTM"
    layers = 1
    heads = 0                                       # of attention: it has none
    pooler = False
    heads_known, features = ("none", "sequence"), ("logits",)

    def __post_init__(self):
        if self.embedding not in EMBEDDINGS:
            raise WrongUsage(f"need an embedding out of {', '.join(EMBEDDINGS)}; got {self.embedding!r}")
        require_head(self)

    longest = 1 << 20                               # tokens of a sequence: it has no positions

    @property
    def embedding_width(self):
        """E: of all tables together."""
        return self.word_width * len(EMBEDDINGS[self.embedding])

    @property
    def summary_width(self):
        """Of what the head reads."""
        return (8 if self.pair else 2) * self.hidden


# As castorini/d-bert configures them; `bilstm` has the 0.96 million parameters that the paper states (unverified).
PUBLISHED = {
    "bilstm": BiLstmConfig(150, 200, "multichannel"),
    "bilstm-rand": BiLstmConfig(150, 200, "rand"),
    "bilstm-large": BiLstmConfig(300, 400, "multichannel"),
    "bilstm-pair": BiLstmConfig(300, 200, "multichannel", pair=True),
}


class WordEmbeddings(Module):
    """y = [trained[ids], fixed[ids]], or one of them; a fixed table is not trained. Shapes: ids (B, T) -> (B, T, E)."""

    def __init__(self, config):
        for name in EMBEDDINGS[config.embedding]:
            setattr(self, name, Embedding(config.vocabulary, config.word_width))
            getattr(self, name).weight.requires_grad = name == "trained"

    def __call__(self, ids):
        return ops.concatenate(*(table(ids) for table in vars(self).values()), axis=-1)


class SentenceHead(Module):
    """logits = dropout(relu(summary W + b)) W' + b'. Shapes: (B, 2H) or (B, 8H) -> (B, C)."""

    def __init__(self, config):
        self.inner = Linear(config.summary_width, config.feed_forward)
        self.dropout = Dropout(0.0 if config.pair else config.dropout)
        self.classifier = Linear(config.feed_forward, len(config.labels))

    def __call__(self, summary, run):
        return self.classifier(self.dropout(ops.relu(self.inner(summary)), run))


class BiLstm(Module):
    """batch -> Features, which are logits (B, C) and nothing else: no other field of a Transformer is there.

    vectors: (vocabulary, word_width) NumPy, the word vectors that every table starts from; a row with NaN is no vector.
    Words without one, and all words where none are given, start from uniform(-0.25, 0.25), alike in all tables.
    The LSTM starts from uniform(-1/sqrt(H), 1/sqrt(H)), a linear map of D inputs from uniform(-1/sqrt(D), 1/sqrt(D)),
    as PyTorch's do.
    Raises: Problem where another feature is needed, or something is given that only a Transformer can take; WrongUsage
    where vectors do not fit, or a pair has no token types.
    """

    def __init__(self, config, seed=0, vectors=None):
        self.config = config
        self.embeddings = WordEmbeddings(config)
        self.lstm = BidirectionalLstm(config.embedding_width, config.hidden)
        if config.head == "sequence":
            self.head = SentenceHead(config)
        number_dropouts(self)
        if seed is not None:                        # None: whoever builds it fills it
            self.draw(seed, vectors=vectors)

    def draw(self, seed, prefixes=("",), vectors=None):
        """Draw every parameter, each by its own name, and set the word vectors; prefixes: only what begins with these."""
        def drawn(name, bound, shape):
            return generator(seed, stream(name)).uniform(-bound, bound, shape).astype(np.float32)

        inputs = {"lstm.": self.config.hidden, "head.inner.": self.config.summary_width,
                  "head.classifier.": self.config.feed_forward}
        for name, parameter in self.named_parameters().items():
            for prefix, count in inputs.items():
                if name.startswith(prefix) and name.startswith(tuple(prefixes)):
                    parameter.array = drawn(name, count ** -0.5, parameter.shape)
        if "embeddings.".startswith(tuple(prefixes)):
            self.set_words(drawn("embeddings", EMBEDDING_BOUND, (self.config.vocabulary, self.config.word_width)), vectors)

    def set_words(self, words, vectors=None):
        """Every table as `words`, with `vectors` (V, E) in its rows that are known; an unknown one is NaN."""
        if vectors is not None:
            if vectors.shape != words.shape:
                raise WrongUsage(f"need word vectors of the shape {words.shape}, one for each word; got {vectors.shape}")
            words = np.where(np.isnan(vectors).any(axis=1, keepdims=True), words, vectors)
        for table in self.embeddings.parameters():
            table.array = words.astype(np.float32)  # a copy for each: optimisers work in place

    def __call__(self, batch, run):
        for name, given, reason in (("attention_mask", batch.attention_mask, "no attention"),
                                    ("position_ids", batch.position_ids, "no positions"),
                                    ("decisions", run.decisions, "no layers or modules that can be left out")):
            if given is not None:
                raise Problem(f"{self.config} cannot take {name}: it has {reason}")
        others = sorted({name for name, _ in run.needs.wanted} - {"logits"})
        if others:
            raise Problem(f"need {others[0]}, which {self.config} cannot have: of all features it has logits only")
        features = Features(str(self.config), self.config.layers, batch.mask)
        if "logits" not in run.needs:
            return features
        if self.config.head == "none":
            raise Problem(f"need logits, which {self.config} without a head cannot have")
        return features.has(logits=self.head(self.summary(batch), run))

    def summary(self, batch):
        """u of a sentence (B, 2H); [u, v, |u - v|, u * v] of a pair (B, 8H)."""
        x = self.embeddings(batch.ids)                                                  # (B, T, E)
        if not self.config.pair:
            return self.lstm(x, batch.mask)
        if batch.token_types is None:
            raise WrongUsage(f"{self.config} for pairs needs token types, which say where the second sentence begins")
        u, v = (self.lstm(x, words) for words in sentences(batch.mask, batch.token_types))
        return ops.concatenate(u, v, ops.absolute(u - v), u * v, axis=-1)


def sentences(mask, token_types):
    """Where the words of a and of b are in `[CLS] a [SEP] b [SEP]`: two masks like `mask` (B, T), True at real tokens.

    [CLS] is the first token, and [SEP] the last real one of its type.

    >>> types = np.array([[0, 0, 0, 0, 1, 1, 0]])               # [CLS] a a [SEP] b [SEP] and one token of padding
    >>> for words in sentences(np.arange(7)[None] < 6, types): print(words.astype(int))
    [[0 1 1 0 0 0 0]]
    [[0 0 0 0 1 0 0]]
    """
    xp = xp_of(mask)
    goes_on = mask[:, 1:] & (token_types[:, 1:] == token_types[:, :-1])     # (B, T-1): the next token belongs to it
    words = xp.concatenate([goes_on, xp.zeros_like(mask[:, :1])], axis=1)   # (B, T): without [SEP]
    words = words & (xp.arange(mask.shape[1]) > 0)                          # and without [CLS]
    return words & (token_types == 0), words & (token_types == 1)


def parameter_count(config):
    """Exact counts by part, from the configuration alone: nothing is built.

    The LSTM has 4H (E + H + 2) in each direction, with two bias vectors as in PyTorch.
    """
    H, E, inner, classes = config.hidden, config.embedding_width, config.feed_forward, len(config.labels)
    parts = {
        "word embeddings": config.vocabulary * E,
        "lstm": 8 * H * (E + H + 2),
        "head": (config.summary_width + 1) * inner + (inner + 1) * classes if config.head == "sequence" else 0,
    }
    return parts | {"total": sum(parts.values())}


def forward_flops(config, length):
    """2 x multiply-accumulates of one forward's matrix products for one sequence, or pair, of `length` tokens.

    The LSTM: 2 * 4H (E + H) for each token and direction. The head: once.
    """
    H, E, inner = config.hidden, config.embedding_width, config.feed_forward
    head = 2 * inner * (config.summary_width + len(config.labels)) if config.head == "sequence" else 0
    return 16 * length * H * (E + H) + head


def of_size(layers, hidden, heads):
    """`bilstm-1xH`: words of 2H numbers a channel and a head of 4H/3, as in Tang's 150."""
    if layers != 1:
        raise WrongUsage(f"need a BiLSTM of one layer, such as bilstm-1x{hidden}; got {layers}")
    return BiLstmConfig(hidden, 4 * hidden // 3, "multichannel", word_width=2 * hidden)


architecture = Architecture(
    "Tang et al. 2019", BiLstmConfig, BiLstm, parameter_count, forward_flops,
    published={name: Size(config, "Tang et al. 2019", "without embeddings") for name, config in PUBLISHED.items()},
    sized={"bilstm": of_size})
