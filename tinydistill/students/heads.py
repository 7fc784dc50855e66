"""What reads the encoder's output: masked tokens, classes of a sequence, classes of its tokens."""

from tinydistill import ops
from tinydistill.nn.layers import Dropout, LayerNorm, Linear, parameter
from tinydistill.nn.module import Module


def select(x, positions):
    """The tokens at `positions` of the flattened (B*T,), or all of them. Shapes: (B, T, D) -> (N, D)."""
    tokens = x.reshape(-1, x.shape[-1])                                                 # (B*T, D)
    return tokens if positions is None else tokens[positions]


class MaskedLanguageHead(Module):
    """logits = LN(gelu(h W + b)) E^T + c at the selected positions, with E the word embeddings: the decoder is tied.

    Shapes: x (B, T, D), E (V, D), logits (N, V). Source: Devlin et al. 2019; google-research/bert, run_pretraining.py.
    """

    def __init__(self, config):
        self.dense = Linear(config.hidden, config.hidden)
        self.norm = LayerNorm(config.hidden, config.eps)
        self.bias = parameter((config.vocabulary,))

    def __call__(self, x, positions, word_embeddings):
        h = ops.bias_gelu(ops.linear(select(x, positions), self.dense.weight, None), self.dense.bias)
        return ops.linear(self.norm(h), word_embeddings, self.bias)


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
