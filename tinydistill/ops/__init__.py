"""Differentiable functions. In every file the derivative stands under its forward, in the same names.

Shape letters, here and everywhere: B batch, T sequence length counting padding, D hidden size, A attention heads,
K head size, F feed-forward size, V vocabulary, L teacher layers, M student layers, C classes, N selected positions.
"""

from tinydistill.ops.attention import attention, project_heads, scaled_product
from tinydistill.ops.cross_entropy import cross_entropy
from tinydistill.ops.divergence import kl_divergence
from tinydistill.ops.dropout import dropout
from tinydistill.ops.elementary import (add, divide, exp, log, masked, multiply, negative, relu, sqrt, subtract, tanh)
from tinydistill.ops.embedding import embedding
from tinydistill.ops.gelu import bias_gelu, gelu
from tinydistill.ops.layer_norm import layer_norm
from tinydistill.ops.linear import linear, matmul
from tinydistill.ops.shapes import concatenate, mean, reshape, sum, take, transpose
from tinydistill.ops.softmax import log_softmax, softmax
from tinydistill.ops.squared_error import squared_error
from tinydistill.ops.unit_norm import unit_norm
from tinydistill.tensor import Tensor

__all__ = ["add", "attention", "bias_gelu", "concatenate", "cross_entropy", "divide", "dropout", "embedding", "exp",
           "gelu", "kl_divergence", "layer_norm", "linear", "log", "log_softmax", "masked", "matmul", "mean",
           "multiply", "negative", "project_heads", "relu", "reshape", "scaled_product", "softmax", "sqrt", "squared_error",
           "subtract", "sum", "take", "tanh", "transpose", "unit_norm"]

# What a Tensor understands as operators and methods.
Tensor.__add__ = Tensor.__radd__ = add
Tensor.__mul__ = Tensor.__rmul__ = multiply
Tensor.__sub__ = subtract
Tensor.__rsub__ = lambda self, other: subtract(other, self)
Tensor.__truediv__ = divide
Tensor.__rtruediv__ = lambda self, other: divide(other, self)
Tensor.__neg__ = negative
Tensor.__matmul__ = matmul
Tensor.__rmatmul__ = lambda self, other: matmul(other, self)
Tensor.__getitem__ = lambda self, index: take(self, index=index)
Tensor.sum = lambda self, axis=None, keepdims=False: sum(self, axis=axis, keepdims=keepdims)
Tensor.mean = lambda self, axis=None, keepdims=False: mean(self, axis=axis, keepdims=keepdims)
Tensor.reshape = lambda self, *shape: reshape(self, shape=shape)
Tensor.transpose = lambda self, *axes: transpose(self, axes=axes)
