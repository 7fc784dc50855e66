"""The stages of MobileBERT's three ways to transfer in PyTorch, for `ten_steps.steps`: objectives and rates by name."""

import itertools
import re

import torch

from oracle import mobilebert

PAPER = {"feature_map": (1.0, "hidden", mobilebert.per_sequence(torch.nn.functional.mse_loss)),
         "attention": (1.0, "scores", mobilebert.attention)}
OFFICIAL = {"feature_map_normalised": (100.0, "hidden", mobilebert.of_everything(mobilebert.normalised)),
            "mean_transfer": (5000.0, "hidden", mobilebert.of_everything(mobilebert.means)),
            "variance_transfer": (5.0, "hidden", mobilebert.of_everything(mobilebert.variances)),
            "attention": (1.0, "scores", mobilebert.attention_official)}


def of_layers(official, layers, depth, late=False):
    """The objective of these layers; late: nothing at the first step."""
    taken = itertools.count()

    def objective(student, teacher, batch, mask, maps):
        is_open = next(taken) > 0 or not late
        return {f"mobilebert.{name}": (is_open * weight / (depth if official else 1),
                                       sum(loss(student[field, l], teacher[field, l], mask) for l in layers))
                for name, (weight, field, loss) in (OFFICIAL if official else PAPER).items()}
    return objective


def prediction(official):
    def objective(student, teacher, batch, mask, maps):
        labels = torch.tensor(batch.labels.ravel()[batch.positions]).long()
        value = mobilebert.pretraining(student["logits", None], teacher["logits", None], labels, 1e-5 if official else 0.0)
        return {"mobilebert.pretraining": (1.0, value)}
    return objective


def both(first, second):
    return lambda *arguments: first(*arguments) | second(*arguments)


def objectives(transfer, official, depth):
    """(objective, the layer whose stage it is, or None) of every stage."""
    everything, last = range(depth), prediction(official)
    if transfer == "auxiliary":
        return [(both(last, of_layers(official, everything, depth)), None)]
    if transfer == "joint":
        return [(of_layers(official, everything, depth), None), (last, None)]
    return [(of_layers(official, [l], depth, late=official), l) for l in everything] + [(last, None)]


def factors(layer, steps):
    """factor(step, name) in the stage of a layer, by transformers' names."""
    def factor(step, name):
        found = re.search(r"encoder\.layer\.(\d+)\.", name)
        if found is None or int(found[1]) > layer:
            return 0.0
        r = step / steps
        return 3 * min(0.9 + 0.1 * (1 - r) ** 0.5, 10 * r) * (1.0 if int(found[1]) == layer else 0.1)
    return factor
