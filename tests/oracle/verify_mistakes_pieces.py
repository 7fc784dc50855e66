"""The pieces under the losses as they are got wrong in PyTorch. WRONG: as in verify_mistakes.py."""

import math

import torch
import torch.nn.functional as F


def layer_norm_of_torch(x, gain, bias):
    """eps as it is by default."""
    return F.layer_norm(x, x.shape[-1:], gain, bias)


def unbiased(x, gain, bias, eps):
    return gain * (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + eps) + bias


def annotated(x, gain, bias, eps):
    """x.std() + eps."""
    return gain * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + eps) + bias


def tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def attention_without_scale(queries, keys, values, mask):
    return F.scaled_dot_product_attention(queries, keys, values, mask[:, None, None, :], scale=1.0)


def attention_without_mask(queries, keys, values, mask):
    return F.scaled_dot_product_attention(queries, keys, values)


def attention_over_queries(queries, keys, values, mask):
    scores = queries @ keys.mT / math.sqrt(queries.size(-1))
    return F.softmax(scores.masked_fill(~mask[:, None, None, :], -1e30), dim=-2) @ values


def padding_fixed(table, ids):
    return F.embedding(ids, table, padding_idx=0)


def eps_added(x, eps):
    return x / (x.norm(dim=-1, keepdim=True) + eps)


def unpacked(x, input_weight, hidden_weight, input_bias, hidden_bias, mask, reverse):
    """torch.lstm of padded sequences that nobody packed."""
    nothing, x = x.new_zeros(1, len(x), hidden_weight.size(1)), x.flip(1) if reverse else x
    weights = input_weight, hidden_weight, input_bias, hidden_bias
    y = torch.lstm(x, (nothing, nothing), weights, True, 1, 0.0, False, False, True)[0]
    return y.flip(1) if reverse else y


def one_bias(x, hidden, cell, input_weight, hidden_weight, input_bias, hidden_bias):
    return torch.lstm_cell(x, (hidden, cell), input_weight, hidden_weight, input_bias, torch.zeros_like(input_bias))


class MeanOfBiases(torch.autograd.Function):
    """x W^T + b, whose biases get a mean."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        rows = dy.flatten(0, -2)                                                        # (B*T, F)
        return dy @ weight, rows.T @ x.flatten(0, -2), rows.mean(0)


WRONG = (
    ("layer_norm", "eps_1e-5", layer_norm_of_torch), ("layer_norm", "unbiased", unbiased),
    ("layer_norm", "unbiased_outside", annotated),
    ("gelu", "tanh_form", tanh_gelu), ("gelu", "sigmoid_form", quick_gelu),
    ("attention", "no_scale", attention_without_scale), ("attention", "no_mask", attention_without_mask),
    ("attention", "wrong_axis", attention_over_queries),
    ("embedding", "bwd_padding_fixed", padding_fixed), ("unit_norm", "eps_added", eps_added),
    ("lstm", "reads_padding", unpacked), ("lstm_cell", "one_bias", one_bias), ("linear", "bwd_bias_mean", MeanOfBiases),
)
