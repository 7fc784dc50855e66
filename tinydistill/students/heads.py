"""What reads the encoder's output: masked tokens, classes of a sequence, classes of its tokens, spans of them."""

from tinydistill import ops
from tinydistill.backend import xp_of
from tinydistill.nn.layers import Dropout, Embedding, LayerNorm, Linear, activated, parameter
from tinydistill.nn.module import Module


def select(x, positions):
    """The tokens at `positions` of the flattened (B*T,), or all of them. Shapes: (B, T, D) -> (N, D)."""
    tokens = x.reshape(-1, x.shape[-1])                                                 # (B*T, D)
    return tokens if positions is None else tokens[positions]


class MaskedLanguageHead(Module):
    """logits = LN(act(h W + b)) E^T + c at the selected positions, with E the word embeddings: the decoder is tied.

    Where it is not, E is a matrix of its own, `decoder`, and the word embeddings are read by the input alone.
    Shapes: x (B, T, D), E (V, D), logits (N, V). Source: Devlin et al. 2019; google-research/bert, run_pretraining.py.
    """

    def __init__(self, config):
        self.dense = Linear(config.hidden, config.hidden)
        self.norm = LayerNorm(config.hidden, config.eps)
        if not config.tied:
            self.decoder = Embedding(config.vocabulary, config.hidden)
        self.bias = parameter((config.vocabulary,))
        self.activation = config.activation

    def __call__(self, x, positions, word_embeddings):
        h = activated(self.dense, select(x, positions), self.activation)
        E = self.decoder.weight if hasattr(self, "decoder") else word_embeddings
        return ops.linear(self.norm(h), E, self.bias)


class PretrainingHead(MaskedLanguageHead):
    """The same, and whether the second sentence follows the first: next_sentence = pooled W + b.

    Shapes: (B, D) -> (B, 2).
    """

    def __init__(self, config):
        super().__init__(config)
        self.next_sentence = Linear(config.hidden, 2)


class SplitDecoderHead(Module):
    """logits = LN(act(h W + b)) [E, extra]^T + c at the selected positions: a layer norm even where blocks have none.

    With `next_sentence` for a pretraining head, pooled W + b. Shapes: x (B, T, H), E (V, E), extra (V, H - E), logits
    (N, V), next_sentence (B, 2).
    """

    def __init__(self, config):
        self.dense = Linear(config.hidden, config.hidden)
        self.norm = LayerNorm(config.hidden, config.eps)
        self.extra = Embedding(config.vocabulary, config.hidden - config.embedding)
        self.bias = parameter((config.vocabulary,))
        self.activation = config.activation
        if config.head == "pretraining":
            self.next_sentence = Linear(config.hidden, 2)

    def __call__(self, x, positions, word_embeddings):
        h = activated(self.dense, select(x, positions), self.activation)
        return ops.linear(self.norm(h), ops.concatenate(word_embeddings, self.extra.weight, axis=1), self.bias)


class SequenceHead(Module):
    """logits = dropout(pooled) W + b. Shapes: (B, D) -> (B, C)."""

    def __init__(self, config):
        self.dropout = Dropout(config.dropout)
        self.classifier = Linear(config.hidden, len(config.labels))

    def __call__(self, pooled, run):
        return self.classifier(self.dropout(pooled, run))


class TokenHead(SequenceHead):
    """logits = dropout(x) W + b at the selected positions. Shapes: (B, T, D) -> (N, C)."""

    def __call__(self, x, positions, run):
        return self.classifier(select(self.dropout(x, run), positions))


class SpanHead(Module):
    """logits = x W + b: how well an answer starts and ends at each token. Shapes: (B, T, D) -> (B, T, 2)."""

    def __init__(self, config):
        self.ends = Linear(config.hidden, 2)

    def __call__(self, x, run):
        return self.ends(x)


def with_head(body, head, labels=(), seed=0):
    """The model with this head: as it is where it has it, else the same body with a fresh head drawn by `seed`.

    A head that reads a pooler draws it too, where the body has none.
    """
    config = body.config.but(head=head, labels=tuple(labels),
                             **({"pooler": True} if head in body.config.read_pooled else {}))
    if config == body.config:
        return body
    like = body.parameters()[0].array
    model = type(body)(config, seed).to(xp_of(like), like.dtype)
    kept = {name: array for name, array in body.arrays().items() if not name.startswith("head.")}
    if hasattr(body, "state"):                      # what it learned besides
        model.state = dict(body.state)
    return model.load(model.arrays() | kept)
