"""The pieces under the losses in PyTorch: {equation: f(attrs, settings, **inputs) -> output, or {output: tensor}}."""

import torch
import torch.nn.functional as F

from oracle import torch_ops

GATES = ("input_weight", "hidden_weight", "input_bias", "hidden_bias")


def softmax(attrs, settings, x, mask):
    y = torch_ops.softmax(x, mask)
    if settings.get("empty") == "uniform":
        y = torch.where(mask.any(-1, keepdim=True), y, 1 / x.shape[-1])
    return y


def attention(attrs, settings, queries, keys, values, mask):
    if settings.get("empty") == "uniform" and not mask.any():
        return values.mean(2, keepdim=True).expand_as(values)
    return F.scaled_dot_product_attention(queries, keys, values, mask[:, None, None, :])


def relation(attrs, settings, x, mask):
    rows = torch.ones_like(mask) if settings.get("rows") == "all" else mask
    return torch_ops.softmax(x @ x.mT / x.shape[-1] ** 0.5, mask[:, None, None, :] & rows[:, None, :, None])


def lstm_cell(attrs, settings, x, hidden, cell, **weights):
    found = torch.lstm_cell(x, (hidden, cell), *(weights[name] for name in GATES))
    return dict(zip(("next_hidden", "next_cell"), found))


def lstm(attrs, settings, x, mask, **weights):
    """Each sequence by itself and without its masked tokens."""
    return torch_ops.lstm(x, *(weights[name] for name in GATES), mask=mask, reverse=attrs["reverse"])


def fake_quantise(attrs, settings, x):
    """By the equation: PyTorch's own function keeps its scale in float32."""
    M, r = 2 ** (attrs["bits"] - 1) - 1, attrs["largest"]
    return torch_ops.StraightThrough.apply(x, (x * (M / r)).round().clamp(-M, M) * (r / M) if r else 0 * x)


def fake_quantise_groups(attrs, settings, x):
    """A group of one number has no step, and stays."""
    rows = x.unflatten(0, (attrs["groups"], -1)).flatten(1)
    y = torch_ops.fake_quantise_groups(x, attrs["groups"], attrs["bits"]).unflatten(0, (attrs["groups"], -1)).flatten(1)
    constant = rows.amin(1, True) == rows.amax(1, True)
    return torch.where(constant, rows, y).reshape(x.shape)


def integer_linear(attrs, settings, x, weight, bias):
    """Products of int64."""
    M, own = 2 ** (attrs["bits"] - 1) - 1, weight.abs().max()
    unit = (attrs["largest"] / M) * (own / M)
    X, W = ((y * (M / r)).round().clamp(-M, M).long() for y, r in ((x, attrs["largest"]), (weight, own)))
    return (X @ W.T + (bias / unit).round().long()).double() * unit


def importance(attrs, settings, context, gradient):
    """dL/dxi of a gate on every head: of each example and token, and summed as the version says."""
    gates = torch.ones(context.shape[:3], dtype=context.dtype, requires_grad=True)
    (gates[..., None] * context * gradient).sum().backward()
    return {"example": lambda g: g.sum(2).abs().mean(0), "token": lambda g: g.abs().sum((0, 2)),
            "batch": lambda g: g.sum((0, 2)).abs()}[settings.get("version", "example")](gates.grad)


def linear_kl_divergence(attrs, settings, hidden, weight, bias, row_weights, **teacher):
    """All rows at once."""
    teacher = [teacher[f"teacher_{name}"].detach() for name in ("hidden", "weight", "bias")]
    if not attrs["biased"]:
        bias = teacher[2] = None
    return torch_ops.linear_kl_divergence(hidden, weight, bias, *teacher, row_weights=row_weights.detach(),
                                          temperature=attrs["temperature"])


PIECES = {
    "softmax": softmax,
    "log_softmax": lambda attrs, settings, x: x.log_softmax(-1),
    "layer_norm": lambda attrs, settings, x, gain, bias: F.layer_norm(x, gain.shape, gain, bias, attrs["eps"]),
    "layer_norm_residual": lambda attrs, settings, x, residual, gain, bias:
        torch_ops.layer_norm(x, residual, gain, bias, attrs["eps"]),
    "no_norm_residual": lambda attrs, settings, x, residual, gain, bias: torch_ops.no_norm(x, residual, gain, bias),
    "bias_gelu": lambda attrs, settings, x, bias: torch_ops.bias_gelu(x, bias),
    "no_norm": lambda attrs, settings, x, gain, bias: torch.addcmul(bias, gain, x),
    "gelu": lambda attrs, settings, x: F.gelu(x),
    "gelu_new": lambda attrs, settings, x: F.gelu(x, approximate="tanh"),
    "attention": attention,
    "attention_dropout": lambda attrs, settings, queries, keys, values, mask, bits: torch_ops.attention(
        queries, keys, values, mask[:, None, None, :], bits, attrs["rate"]),
    "project_heads": lambda attrs, settings, x, **weights: dict(zip(
        ("queries", "keys", "values"), torch_ops.project_heads(x, *weights.values(), heads=attrs["heads"]))),
    "relation": relation,
    "embedding": lambda attrs, settings, table, ids: F.embedding(ids, table),
    "linear": lambda attrs, settings, x, weight, bias: F.linear(x, weight, bias),
    "grouped_linear": lambda attrs, settings, x, weight, bias:
        torch_ops.grouped_linear(x, weight, bias, attrs["groups"]),
    "lstm_cell": lstm_cell,
    "lstm": lstm,
    "unit_norm": lambda attrs, settings, x: F.normalize(x, dim=-1, eps=attrs["eps"]),
    "squared_error": lambda attrs, settings, student, teacher, weight:
        torch_ops.squared_error(student, teacher.detach(), weight.detach()),
    "fake_quantise.q8bert": fake_quantise,
    "fake_quantise.qbert": fake_quantise_groups,
    "integer_linear": integer_linear,
    "michel.importance": importance,
    "absolute": lambda attrs, settings, x: x.abs(),
    "masked": lambda attrs, settings, x, mask: torch.where(mask, x, attrs["fill"]),
    "dropout": lambda attrs, settings, x, bits: torch_ops.dropout(x, bits, attrs["rate"]),
    "sum": lambda attrs, settings, x: x.sum(attrs["axis"], attrs["keepdims"]),
    "mean": lambda attrs, settings, x: x.mean(attrs["axis"], attrs["keepdims"]),
    "concatenate": lambda attrs, settings, **parts: torch.cat(list(parts.values()), attrs["axis"]),
    "take": lambda attrs, settings, x, index: x[index],
    "transpose": lambda attrs, settings, x, axes: x.permute(axes.tolist()),
    "trigram": lambda attrs, settings, x: torch_ops.trigram(x),
    "linear_kl_divergence": linear_kl_divergence,
    "linear_cross_entropy": lambda attrs, settings, hidden, weight, bias, labels:
        torch_ops.cross_entropy(F.linear(hidden, weight, bias if attrs["biased"] else None), labels),
} | {name: lambda attrs, settings, a, b, f=getattr(torch, name): f(a, b)
     for name in ("add", "subtract", "multiply", "divide", "matmul")
     } | {name: lambda attrs, settings, x, f=getattr(torch_ops, name): f(x)
          for name in ("negative", "exp", "log", "sqrt", "tanh", "relu", "relu6")}


def answer(equation, attrs, settings, inputs, upstream):
    """{output: array} and {"d" + input: array}, None where there is no path."""
    tensors = {name: torch.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in inputs.items()}
    outputs = PIECES[equation](attrs, settings, **tensors)
    outputs = outputs if isinstance(outputs, dict) else {"y": outputs}
    found = {name: y.detach().numpy() for name, y in outputs.items()}
    if not any(y.requires_grad for y in outputs.values()):
        return found
    upstream = upstream if isinstance(upstream, dict) else {name: upstream for name in outputs}
    total = sum((y * torch.as_tensor(upstream[name])).sum() for name, y in outputs.items())
    learned = {name: x for name, x in tensors.items() if x.requires_grad}
    gradients = torch.autograd.grad(total, list(learned.values()), allow_unused=True)
    return found | {f"d{name}": None if g is None else g.numpy() for name, g in zip(learned, gradients)}
