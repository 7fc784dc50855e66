"""One Transformer layer, post-norm as in BERT:  h = LN(x + attention(x));  y = LN(h + feed_forward(h))."""

from tinydistill.nn.attention import SelfAttention
from tinydistill.nn.layers import Dropout, LayerNorm, Linear, activated
from tinydistill.nn.module import Module


class FeedForward(Module):
    """act(x W1 + b1) W2 + b2. Shapes: D -> F -> D."""

    def __init__(self, width, inner_width, activation="gelu"):
        self.inner = Linear(width, inner_width)
        self.outer = Linear(inner_width, width)
        self.activation = activation                # the name of an op

    def __call__(self, x):
        return self.outer(activated(self.inner, x, self.activation))


class EncoderLayer(Module):
    def __init__(self, width, heads, inner_width, eps, dropout, attention_dropout, activation="gelu"):
        self.attention = SelfAttention(width, heads, attention_dropout)
        self.attention_dropout = Dropout(dropout)
        self.attention_norm = LayerNorm(width, eps)
        self.feed_forward = FeedForward(width, inner_width, activation)
        self.feed_forward_dropout = Dropout(dropout)
        self.feed_forward_norm = LayerNorm(width, eps)

    def __call__(self, x, queries, keys, values, mask, run):
        """y (B, T, D) from x (B, T, D) and what `attention.project(x)` made of it."""
        attended = self.attention.attend(queries, keys, values, mask, run)
        h = self.attention_norm(self.attention_dropout(attended, run), x)
        return self.feed_forward_norm(self.feed_forward_dropout(self.feed_forward(h), run), h)
