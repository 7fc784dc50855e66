"""transformers' BERT with adapters in PyTorch behind its two dropouts, and what its parts are called."""

from types import SimpleNamespace

import torch
import transformers
from torch.nn.functional import cross_entropy, gelu

from tinydistill.students import bert_names


class Adapter(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.down = torch.nn.Linear(config.hidden_size, config.bottleneck)
        self.up = torch.nn.Linear(config.bottleneck, config.hidden_size)

    def forward(self, z):
        return z + self.up(gelu(self.down(z), approximate="tanh"))


def _with_adapters(name):
    class Adapted(getattr(transformers, name)):
        def __init__(self, config):
            super().__init__(config)
            for layer in self.base_model.encoder.layer:
                for part in (layer.attention.output, layer.output):     # dense, dropout, then LayerNorm(. + input)
                    part.dropout = torch.nn.Sequential(part.dropout, Adapter(config))
    return Adapted


PLACES = {"attention_adapter": "attention.output.dropout.1", "feed_forward_adapter": "output.dropout.1"}
names = SimpleNamespace(**{name: value for name, value in vars(bert_names).items() if name.isupper()} | {
    "ARCHITECTURES": {head: _with_adapters(name) for head, name in bert_names.ARCHITECTURES.items()},
    "SETTINGS": bert_names.SETTINGS | {"bottleneck": ("bottleneck", 64)},
    "NAMES": bert_names.NAMES | {f"layers.N.{ours}.{half}": f"encoder.layer.N.{theirs}.{half}"
                                 for ours, theirs in PLACES.items() for half in ("down", "up")}})


def objective(student, teacher, batch, mask, maps):
    """The terms of a step of `oracle.ten_steps`: the labels alone."""
    return {"cross_entropy": (1.0, cross_entropy(student["logits", None], torch.tensor(batch.labels).long()))}


def frozen_but(made, trained):
    """The model with gradients for the parameters named in `trained` alone."""
    for name, parameter in made.named_parameters():
        parameter.requires_grad = name in trained
    return made
