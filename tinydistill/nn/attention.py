"""Multi-head self-attention."""

from tinydistill import ops
from tinydistill.nn.layers import Dropout, Linear
from tinydistill.nn.module import Module


class SelfAttention(Module):
    """heads = attention(x Wq, x Wk, x Wv); output = concatenated heads Wo. Shapes: x (B, T, D), per head (B, A, T, K).

    In two halves, so that a loss that reads queries, keys and values can stop after the first. size: that of a head, K;
    None: the heads share the width, D = A*K.
    """

    def __init__(self, width, heads, attention_dropout, size=None):
        together = width if size is None else heads * size
        self.query = Linear(width, together)
        self.key = Linear(width, together)
        self.value = Linear(width, together)
        self.output = Linear(together, width)
        self.dropout = Dropout(attention_dropout)
        self.heads = heads

    def project(self, x):
        """queries, keys, values, each (B, A, T, K)."""
        return ops.project_heads(x, self.query.weight, self.query.bias, self.key.weight, self.key.bias,
                                 self.value.weight, self.value.bias, heads=self.heads)

    def attend(self, queries, keys, values, mask, run):
        """(B, A, T, K) three times -> (B, T, D). mask broadcasts against (B, A, T, T), True where a key may be seen."""
        B, A, T, K = queries.shape
        bits = self.dropout.bits((B, A, T, T), run, queries.array)
        return self.join(ops.attention(queries, keys, values, mask=mask, bits=bits, rate=self.dropout.rate))

    def join(self, context):
        """What the heads have read, put together: (B, A, T, K) -> (B, T, D)."""
        B, A, T, K = context.shape
        return self.output(context.transpose(0, 2, 1, 3).reshape(B, T, A * K))          # (B, T, D)
