"""transformers' BERT with layers taken out of the list it runs through."""

import torch

from oracle import bert


def without(twin, kept):
    """The model of these layers alone: what `oracle.bert` then calls layer i is the i-th of them."""
    twin.base_model.encoder.layer = torch.nn.ModuleList(twin.base_model.encoder.layer[l] for l in kept)
    return twin


def features(twin, batch):
    """As `oracle.bert` finds them."""
    return bert.features(twin, batch)


def gradients(twin, batch, upstream):
    """{their name: gradient or None}, layers by their place in the list."""
    return bert.gradients(twin, batch, upstream)[1]
