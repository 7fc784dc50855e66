"""A quantised BERT in PyTorch, from its equations: rounding in the forward, the identity in the backward.

NumPy arrays in and out. `learned` {site: range} by the names of ours; where it has none, the range is the batch's.
"""

import torch
import torch.nn.functional as F

from oracle.torch_ops import StraightThrough, fake_quantise_groups


def own_fake_quantise(x, largest, bits=8):
    """(PyTorch's own function, and what it gives x as gradient of the sum)."""
    M, x = 2 ** (bits - 1) - 1, torch.tensor(x, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(x, float(largest) / M, 0, -M, M)
    y.sum().backward()
    return y.detach().numpy(), x.grad.numpy()


class Quantised:
    """One pass. int8: as integers, with 32-bit biases, and nothing to differentiate."""

    def __init__(self, model, batch, learned=None, int8=False):
        self.config, self.batch, self.int8 = model.config, batch, int8
        self.parameters = {name: torch.tensor(x, requires_grad=not int8) for name, x in model.arrays().items()}
        self.mask = torch.tensor(batch.mask)
        self.learned, self.observed = learned or {}, {}

    def range(self, site, x):
        seen = x[self.mask] if x.ndim == 3 else x
        self.observed[site] = seen.detach().abs().max()
        return float(self.learned[site]) if site in self.learned else self.observed[site]

    @staticmethod
    def codes(x, r, bits):
        M = 2 ** (bits - 1) - 1
        return (x * (M / r)).round().clamp(-M, M)

    def fake(self, x, r, bits):
        return StraightThrough.apply(x, self.codes(x, r, bits) / ((2 ** (bits - 1) - 1) / r))

    def weight(self, name):
        w = self.parameters[f"{name}.weight"]
        if self.config.model_type == "qbert" and name.startswith("layers."):
            return fake_quantise_groups(w, self.config.groups_each, self.config.bits_by_layer[int(name.split(".")[1])])
        return self.fake(w, w.detach().abs().max(), self.config.weight_bits)

    def linear(self, name, x):
        config, bias = self.config, self.parameters[f"{name}.bias"]
        r = self.range(f"{name}.input", x)
        if self.int8:
            w = self.parameters[f"{name}.weight"]
            r_w = w.abs().max()
            unit = (r / (2 ** (config.activation_bits - 1) - 1)) * (r_w / (2 ** (config.weight_bits - 1) - 1))
            X, W = self.codes(x, r, config.activation_bits).long(), self.codes(w, r_w, config.weight_bits).long()
            y = (X @ W.T + (bias / unit).round().long()).double() * unit
        else:
            y = F.linear(self.fake(x, r, config.activation_bits), self.weight(name), bias)
        if not config.requantise_output:
            return y
        return self.fake(y, self.range(f"{name}.output", y), config.activation_bits)

    def plain(self, name, x):
        return F.linear(x, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])

    def norm(self, name, x):
        gamma, beta = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return F.layer_norm(x, gamma.shape, gamma, beta, self.config.eps)

    def heads(self, x):
        return x.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)                 # (B, A, T, K)

    def __call__(self):
        """{(field, layer) or (field, None): tensor}."""
        config, ids = self.config, torch.tensor(self.batch.ids).long()
        words = self.weight("embeddings.word")
        x = words[ids] + self.weight("embeddings.position")[:ids.shape[1]] \
            + self.weight("embeddings.token_type")[torch.tensor(self.batch.token_types).long()]
        x = self.norm("embeddings.norm", x)
        found, keys_seen = {("embeddings", None): x}, self.mask[:, None, None, :]
        for l in range(config.layers):
            at = f"layers.{l}"
            q, k, v = (self.heads(self.linear(f"{at}.attention.{part}", x)) for part in ("query", "key", "value"))
            scores = q @ k.mT / q.shape[-1] ** 0.5
            context = torch.where(keys_seen, scores, -torch.inf).softmax(-1) @ v
            attended = self.linear(f"{at}.attention.output", context.transpose(1, 2).flatten(2))
            h = self.norm(f"{at}.attention_norm", attended + x)
            inner = F.gelu(self.linear(f"{at}.feed_forward.inner", h))
            x = self.norm(f"{at}.feed_forward_norm", self.linear(f"{at}.feed_forward.outer", inner) + h)
            found |= {("queries", l): q, ("keys", l): k, ("values", l): v, ("scores", l): scores, ("hidden", l): x}
        if config.pooler:
            found["pooled", None] = torch.tanh(self.linear("pooler", x[:, 0]))
        if config.head == "sequence":
            found["logits", None] = self.plain("head.classifier", found["pooled", None])
        elif config.head == "token":
            found["logits", None] = self.plain("head.classifier", x).flatten(0, 1)[torch.tensor(self.batch.positions)]
        elif config.head == "masked-lm":
            h = x.flatten(0, 1)[torch.tensor(self.batch.positions)]
            h = self.norm("head.norm", F.gelu(self.plain("head.dense", h)))
            found["logits", None] = F.linear(h, words, self.parameters["head.bias"])
        return found


def features(model, batch, learned=None, int8=False):
    """({place: array}, {site: what was seen there})."""
    one = Quantised(model, batch, learned, int8)
    found = {place: x.detach().numpy() for place, x in one().items()}
    return found, {site: r.numpy() for site, r in one.observed.items()}


def gradients(model, batch, upstream, learned=None):
    """{parameter: gradient} of sum_places <upstream, feature>."""
    one = Quantised(model, batch, learned)
    loss = sum((x * torch.tensor(upstream[place])).sum() for place, x in one().items())
    found = torch.autograd.grad(loss, list(one.parameters.values()), allow_unused=True)
    return {name: None if g is None else g.numpy() for name, g in zip(one.parameters, found)}
