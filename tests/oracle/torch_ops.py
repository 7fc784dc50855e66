"""The ops in PyTorch, under the same names and with the same settings."""

import torch
import torch.nn.functional as F
from torch.optim.adamw import adamw as optimizer_step

torch.set_num_threads(1)                            # for small tensors its threads only wait for each other


def lowered(x, mask):
    """Scores that PyTorch's softmax can take: -inf at masked keys, 0 in a row without any."""
    return x if mask is None else torch.where(mask.any(-1, keepdim=True), torch.where(mask, x, -torch.inf), 0)


def softmax(x, mask=None):
    y = lowered(x, mask).softmax(-1)
    return y if mask is None else torch.where(mask, y, 0)


def log_softmax(x, mask=None):
    y = lowered(x, mask).log_softmax(-1)
    return y if mask is None else torch.where(mask, y, 0)


def dropout(x, bits, rate):
    threshold = round(rate * 65536)
    return x * (bits.int() >= threshold) / (1 - threshold / 65536)


def attention(q, k, v, mask=None, bits=None, rate=0.0):
    if bits is None and mask is None:
        return F.scaled_dot_product_attention(q, k, v)
    p = softmax(q @ k.mT / q.shape[-1] ** 0.5, mask)
    return (p if bits is None else dropout(p, bits, rate)) @ v


def project_heads(x, *weights, heads):
    projected = [F.linear(x, weight, bias) for weight, bias in zip(weights[::2], weights[1::2])]
    return tuple(y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in projected)


def scaled_product(x, y):
    return x @ y.mT / x.shape[-1] ** 0.5


def grouped_linear(x, weight, bias, groups):
    y = F.conv1d(x.flatten(0, -2)[..., None], weight[..., None], bias, groups=groups)       # (N, F, 1)
    return y.reshape(*x.shape[:-1], len(weight))


def kl_divergence(student, teacher, weight, mask=None, temperature=1.0, constant="kl"):
    log_q, log_p = log_softmax(student / temperature, mask), log_softmax(teacher / temperature, mask)
    each = F.kl_div(log_q, log_p, reduction="none", log_target=True) if constant == "kl" else -log_p.exp() * log_q
    return (weight * (each if mask is None else torch.where(mask, each, 0)).sum(-1)).sum()


def squared_error(student, teacher, weight):
    return (weight * F.mse_loss(student, teacher, reduction="none").sum(-1)).sum()


def unit_norm(x, eps=1e-12):
    return F.normalize(x, dim=-1, eps=eps)


def cross_entropy(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")


def smoothed_cross_entropy(logits, labels, smoothing, pad=None, constant="cross-entropy"):
    if pad is None and constant == "cross-entropy":
        return F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum", label_smoothing=smoothing)
    rows = (labels != -100) & (labels != (-100 if pad is None else pad))
    V, labels = logits.shape[1], labels[rows]
    r = torch.full((len(labels), V), smoothing / (V if pad is None else V - 2), dtype=logits.dtype)
    r[torch.arange(len(labels)), labels] = 1 - smoothing + (smoothing / V if pad is None else 0)
    if pad is not None:
        r[:, pad] = 0
    log_q = logits[rows].log_softmax(-1)
    return F.kl_div(log_q, r, reduction="sum") if constant == "kl" else -(r * log_q).sum()


def linear_cross_entropy(hidden, weight, bias, labels, rows_per_chunk=None):
    return cross_entropy(F.linear(hidden, weight, bias), labels)


def linear_kl_divergence(*hidden_weight_bias, row_weights, temperature=1.0, rows_per_chunk=None):
    student, teacher = F.linear(*hidden_weight_bias[:3]), F.linear(*hidden_weight_bias[3:])
    return kl_divergence(student, teacher, row_weights, temperature=temperature)


def layer_norm(x, residual, gamma, beta, eps):
    return F.layer_norm(x if residual is None else x + residual, gamma.shape, gamma, beta, eps)


def no_norm(x, residual, gamma, beta):
    return torch.addcmul(beta, gamma, x if residual is None else x + residual)


def gelu_new(x):
    return F.gelu(x, approximate="tanh")


class StraightThrough(torch.autograd.Function):
    """y in the forward, and its gradient to x as if y were x."""

    @staticmethod
    def forward(context, x, y):
        return y

    @staticmethod
    def backward(context, dy):
        return dy, None


def fake_quantise(x, largest, bits):
    M = 2 ** (bits - 1) - 1
    return StraightThrough.apply(x, torch.fake_quantize_per_tensor_affine(x, float(largest) / M, 0, -M, M))


def fake_quantise_groups(x, groups, bits):
    rows = x.unflatten(0, (groups, -1)).flatten(1)
    lowest, highest = rows.amin(1, True), rows.amax(1, True)
    step = (highest - lowest) / (2 ** bits - 1)
    return StraightThrough.apply(x, (lowest + step * ((rows - lowest) / step).round()).reshape(x.shape))


def trigram(x):
    return torch.cat([F.pad(x[:, 1:], (0, 0, 0, 1)), x, F.pad(x[:, :-1], (0, 0, 1, 0))], -1)


def bias_gelu(x, bias):
    return F.gelu(x + bias)


def embedding(table, ids):
    return F.embedding(ids, table)


def lstm(x, *weights, mask=None, reverse=False):
    """Each sequence by itself and without its masked tokens; what was read of it so far is its state."""
    mask = torch.ones(x.shape[:2], dtype=torch.bool) if mask is None else mask
    nothing, states = x.new_zeros(1, 1, weights[1].shape[1]), []
    for sequence, read in zip(x, mask):
        sequence, read = (sequence.flip(0), read.flip(0)) if reverse else (sequence, read)
        after = nothing[0]
        if read.any():
            out = torch.lstm(sequence[read][None], (nothing, nothing), weights, True, 1, 0.0, False, False, True)[0]
            after = torch.cat([after, out[0]])
        carried = after[read.cumsum(0)]                                                 # (T, H)
        states.append(carried.flip(0) if reverse else carried)
    return torch.stack(states)


def masked(x, mask, fill=0):
    return torch.where(mask, x, fill)


def concatenate(*parts, axis=0):
    return torch.cat(parts, axis)


def transpose(x, axes):
    return x.permute(axes)


def take(x, index):
    return x[index]


def sum(x, axis=None, keepdims=False):
    return torch.sum(x, axis, keepdims)


def mean(x, axis=None, keepdims=False):
    return torch.mean(x, axis, keepdims)


def adamw(parameter, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    """One step of torch.optim.AdamW in place; its class would import a compiler first."""
    lists = [[torch.from_numpy(a)] for a in (parameter, gradient, m, v)]
    optimizer_step(*lists, [], [torch.tensor(t - 1.0)], lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=decay,
                   foreach=False, amsgrad=False, maximize=False)


add, subtract, multiply, divide, matmul = torch.add, torch.subtract, torch.multiply, torch.divide, torch.matmul
negative, exp, log, sqrt, tanh, relu = torch.negative, torch.exp, torch.log, torch.sqrt, torch.tanh, torch.relu
relu6 = F.relu6
reshape, linear, gelu, absolute = torch.reshape, F.linear, F.gelu, torch.abs
