"""The Hessian of a small BERT's loss towards one layer's matrices, by PyTorch's second derivatives."""

import torch
import torch.nn.functional as F

from oracle.q8bert import Quantised


class Floating(Quantised):
    """The same model without any rounding."""

    def fake(self, x, r, bits):
        return x


class Shape:
    """A BERT's configuration with what `Quantised` reads besides."""

    model_type, mode, requantise_output, weight_bits, activation_bits = "bert", "dynamic", False, 8, 8

    def __init__(self, config):
        vars(self).update(config.as_dict())


def hessian(model, batch, layer):
    """(n, n) of the summed cross-entropy, n the numbers in the matrices of the layer."""
    one = Floating(model, batch)
    one.config = Shape(model.config)
    matrices = [p for name, p in one.parameters.items() if name.startswith(f"layers.{layer}.") and p.ndim == 2]
    loss = F.cross_entropy(one()["logits", None], torch.tensor(batch.labels), reduction="sum")
    first = torch.cat([g.flatten() for g in torch.autograd.grad(loss, matrices, create_graph=True)])
    rows = [torch.autograd.grad(g, matrices, retain_graph=True) for g in first]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).numpy()
