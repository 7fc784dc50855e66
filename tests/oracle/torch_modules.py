"""PyTorch's own Transformer layer, with our parameters."""

import numpy as np
import torch
import torch.nn.functional as F

NAMES = {"self_attn.out_proj": "attention.output", "norm1": "attention_norm", "linear1": "feed_forward.inner",
         "linear2": "feed_forward.outer", "norm2": "feed_forward_norm"}
STACKED = ["attention.query", "attention.key", "attention.value"]       # PyTorch keeps the three as one


def encoder_layer(arrays, heads, eps, x, mask, upstream):
    """(y, {our parameter's name, or "x": gradient}) of torch.nn.TransformerEncoderLayer: post-norm, exact GELU."""
    layer = torch.nn.TransformerEncoderLayer(
        x.shape[-1], heads, len(arrays["feed_forward.inner.weight"]), dropout=0.0, activation="gelu",
        layer_norm_eps=eps, batch_first=True, dtype=torch.float64)
    state = {}
    for part in ("weight", "bias"):
        state |= {f"{theirs}.{part}": arrays[f"{ours}.{part}"] for theirs, ours in NAMES.items()}
        state[f"self_attn.in_proj_{part}"] = np.concatenate([arrays[f"{name}.{part}"] for name in STACKED])
    layer.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    x = torch.tensor(x, requires_grad=True)
    y = layer(x, src_key_padding_mask=~torch.tensor(mask))
    y.backward(torch.tensor(upstream))
    theirs, found = {name: p.grad.numpy() for name, p in layer.named_parameters()}, {"x": x.grad.numpy()}
    for part in ("weight", "bias"):
        found |= {f"{ours}.{part}": theirs[f"{name}.{part}"] for name, ours in NAMES.items()}
        found |= {f"{name}.{part}": g for name, g in zip(STACKED, np.split(theirs[f"self_attn.in_proj_{part}"], 3))}
    return y.detach().numpy(), found


def feed_forward(arrays, x):
    """gelu(x W1 + b1) W2 + b2."""
    w1, b1, w2, b2 = (torch.tensor(arrays[f"{layer}.{part}"])
                      for layer in ("inner", "outer") for part in ("weight", "bias"))
    return F.linear(F.gelu(F.linear(torch.tensor(x), w1, b1)), w2, b2).numpy()
