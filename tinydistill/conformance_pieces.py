"""The pieces under the losses, as the kit calls them.

PIECES: {equation: f(attrs, convention, **inputs) -> output, or {output: Tensor}}. A rule of integers has no entry.
"""

import numpy as np

from tinydistill import kernels, ops
from tinydistill.backend import asarray, to_host, xp_of
from tinydistill.compress import michel
from tinydistill.tensor import Tensor


def piece(function):
    """A piece that has one convention and no attrs."""
    return lambda attrs, convention, **inputs: function(**inputs)


def importance(attrs, convention, context, gradient):
    """What a head is worth, by the version of Michel et al. that the convention names."""
    version = "example" if convention == "paper" else convention
    return Tensor(michel.head_scores((context.array * gradient.array).sum(axis=-1), version))


def relation(attrs, convention, x, mask):
    """softmax(x x^T / sqrt(K)), rows of padding emptied."""
    rows = {"paper": mask, "all": xp_of(mask).ones_like(mask)}[convention]
    return ops.masked(ops.softmax(ops.scaled_product(x, x), mask=mask[:, None, None, :]), mask=rows[:, None, :, None])


def integer_linear(attrs, convention, x, weight, bias):
    """The weight in integers by its own largest number, as Q8BERT stores it."""
    x, weight, bias = (t.array if isinstance(t, Tensor) else t for t in (x, weight, bias))
    kernel, xp = kernels.of(x), xp_of(x)
    levels = 2 ** (attrs["bits"] - 1) - 1
    largest = abs(weight).max()
    step = xp.maximum(largest, 1e-30) / levels
    codes = kernel.levels(weight, largest, attrs["bits"]).astype(xp.int8)
    own = asarray(np.asarray(attrs["largest"], to_host(x).dtype), x)
    return Tensor(kernel.integer_linear(x, own, codes, step, bias, attrs["bits"]))


def project_heads(attrs, convention, x, **weights):
    """Three outputs."""
    return dict(zip(("queries", "keys", "values"), ops.project_heads(x, *weights.values(), heads=attrs["heads"])))


def linear_kl_divergence(attrs, convention, hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias,
                         row_weights):
    """With both biases, or without."""
    bias, teacher_bias = (bias, teacher_bias) if attrs["biased"] else (None, None)
    return ops.linear_kl_divergence(hidden, weight, bias, teacher_hidden, teacher_weight, teacher_bias,
                                    row_weights=row_weights.array, temperature=attrs["temperature"],
                                    rows_per_chunk=attrs["rows_per_chunk"])


def linear_cross_entropy(attrs, convention, hidden, weight, bias, labels):
    """With a bias, or without."""
    return ops.linear_cross_entropy(hidden, weight, bias if attrs["biased"] else None, labels,
                                    rows_per_chunk=attrs["rows_per_chunk"])


PIECES = {
    "softmax": lambda attrs, convention, x, mask: ops.softmax(x, mask=mask),
    "log_softmax": piece(lambda x: ops.log_softmax(x)),
    "layer_norm": lambda attrs, convention, x, gain, bias: ops.layer_norm(x, None, gain, bias, eps=attrs["eps"]),
    "layer_norm_residual": lambda attrs, convention, x, residual, gain, bias: ops.layer_norm(
        x, residual, gain, bias, eps=attrs["eps"]),
    "no_norm": piece(lambda x, gain, bias: ops.no_norm(x, None, gain, bias)),
    "no_norm_residual": piece(lambda x, residual, gain, bias: ops.no_norm(x, residual, gain, bias)),
    "bias_gelu": piece(lambda x, bias: ops.bias_gelu(x, bias)),
    "gelu": piece(lambda x: ops.gelu(x)),
    "gelu_new": piece(lambda x: ops.gelu_new(x)),
    "attention": lambda attrs, convention, queries, keys, values, mask: ops.attention(
        queries, keys, values, mask=mask[:, None, None, :]),
    "attention_dropout": lambda attrs, convention, queries, keys, values, mask, bits: ops.attention(
        queries, keys, values, mask=mask[:, None, None, :], bits=bits, rate=attrs["rate"]),
    "project_heads": project_heads,
    "relation": relation,
    "embedding": piece(lambda table, ids: ops.embedding(table, ids)),
    "linear": piece(lambda x, weight, bias: ops.linear(x, weight, bias)),
    "grouped_linear": lambda attrs, convention, x, weight, bias: ops.grouped_linear(
        x, weight, bias, groups=attrs["groups"]),
    "lstm": lambda attrs, convention, x, input_weight, hidden_weight, input_bias, hidden_bias, mask: ops.lstm(
        x, input_weight, hidden_weight, input_bias, hidden_bias, mask=mask, reverse=attrs["reverse"]),
    "fake_quantise.q8bert": lambda attrs, convention, x: ops.fake_quantise(
        x, largest=asarray(np.asarray(attrs["largest"], to_host(x.array).dtype), x.array), bits=attrs["bits"]),
    "fake_quantise.qbert": lambda attrs, convention, x: ops.fake_quantise_groups(
        x, groups=attrs["groups"], bits=attrs["bits"]),
    "integer_linear": integer_linear,
    "michel.importance": importance,
    "squared_error": piece(lambda student, teacher, weight: ops.squared_error(student, teacher, weight=weight.array)),
    "unit_norm": lambda attrs, convention, x: ops.unit_norm(x, eps=attrs["eps"]),
    "add": piece(lambda a, b: ops.add(a, b)),
    "subtract": piece(lambda a, b: ops.subtract(a, b)),
    "multiply": piece(lambda a, b: ops.multiply(a, b)),
    "divide": piece(lambda a, b: ops.divide(a, b)),
    "negative": piece(lambda x: ops.negative(x)),
    "absolute": piece(lambda x: ops.absolute(x)),
    "exp": piece(lambda x: ops.exp(x)),
    "log": piece(lambda x: ops.log(x)),
    "sqrt": piece(lambda x: ops.sqrt(x)),
    "tanh": piece(lambda x: ops.tanh(x)),
    "relu": piece(lambda x: ops.relu(x)),
    "relu6": piece(lambda x: ops.relu6(x)),
    "masked": lambda attrs, convention, x, mask: ops.masked(x, mask=mask, fill=attrs["fill"]),
    "dropout": lambda attrs, convention, x, bits: ops.dropout(x, bits=bits, rate=attrs["rate"]),
    "sum": lambda attrs, convention, x: ops.sum(x, axis=attrs["axis"], keepdims=attrs["keepdims"]),
    "mean": lambda attrs, convention, x: ops.mean(x, axis=attrs["axis"], keepdims=attrs["keepdims"]),
    "matmul": piece(lambda a, b: ops.matmul(a, b)),
    "concatenate": lambda attrs, convention, **parts: ops.concatenate(*parts.values(), axis=attrs["axis"]),
    "take": piece(lambda x, index: ops.take(x, index=index)),
    "transpose": piece(lambda x, axes: ops.transpose(x, axes=to_host(axes).tolist())),
    "trigram": piece(lambda x: ops.trigram(x)),
    "linear_kl_divergence": linear_kl_divergence,
    "linear_cross_entropy": linear_cross_entropy,
}
