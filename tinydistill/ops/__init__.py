"""Differentiable functions. In every file the derivative stands under its forward, in the same names.

Shape letters, here and everywhere: B batch, T sequence length counting padding, D hidden size, A attention heads,
K head size, F feed-forward size, V vocabulary, L teacher layers, M student layers, C classes, N selected positions.
"""

from tinydistill.ops.attention import attention, project_heads, scaled_product
from tinydistill.ops.chunked import linear_cross_entropy, linear_kl_divergence
from tinydistill.ops.cross_entropy import cross_entropy
from tinydistill.ops.divergence import kl_divergence
from tinydistill.ops.dropout import dropout
from tinydistill.ops.elementary import (absolute, add, divide, exp, log, masked, multiply, negative, relu, relu6, sqrt,
                                        subtract, tanh)
from tinydistill.ops.embedding import embedding
from tinydistill.ops.fake_quantise import fake_quantise, fake_quantise_groups
from tinydistill.ops.gelu import bias_gelu, gelu, gelu_new
from tinydistill.ops.grouped_linear import grouped_linear
from tinydistill.ops.label_smoothing import smoothed_cross_entropy
from tinydistill.ops.layer_norm import layer_norm
from tinydistill.ops.linear import linear, matmul
from tinydistill.ops.lstm import lstm
from tinydistill.ops.no_norm import no_norm
from tinydistill.ops.shapes import concatenate, mean, reshape, sum, take, transpose
from tinydistill.ops.softmax import log_softmax, softmax
from tinydistill.ops.squared_error import squared_error
from tinydistill.ops.trigram import trigram
from tinydistill.ops.unit_norm import unit_norm
from tinydistill.tensor import Tensor

__all__ = ["absolute", "add", "attention", "bias_gelu", "concatenate", "cross_entropy", "divide", "dropout",
           "embedding", "exp", "fake_quantise", "fake_quantise_groups", "gelu", "gelu_new", "grouped_linear",
           "kl_divergence", "layer_norm", "linear", "linear_cross_entropy", "linear_kl_divergence", "log",
           "log_softmax", "lstm", "masked", "matmul", "mean", "multiply", "negative", "no_norm", "project_heads",
           "relu", "relu6", "reshape", "scaled_product", "smoothed_cross_entropy", "softmax", "sqrt", "squared_error",
           "subtract", "sum", "take", "tanh", "transpose", "trigram", "unit_norm"]

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
