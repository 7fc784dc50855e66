"""BERT-of-Theseus (Xu et al. 2020): a model whose modules are replaced at random while its successor is trained.

    y_i = layer_i(y_{i-1})                                      the successor's, where decision i is True
    y_i = layer_{ri+r-1}(... layer_{ri}(y_{i-1}))               else the predecessor's r layers in its place

Module i is one layer of the successor, and r = L/M of the predecessor's. Embeddings, pooler and head are the
predecessor's. One decision a module is drawn for each step, for its whole batch. In evaluation every module is replaced.

Source: JetRunner/BERT-of-Theseus.
"""

import copy
from dataclasses import replace

from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage
from tinydistill.nn import Module
from tinydistill.nn.layers import number_dropouts


class Theseus(Module):
    """batch -> Features of the predecessor with the layers that `run.decisions` puts into it; None: all of successor's.

    predecessor: a model with `layers`, as deep as a multiple of the successor's; it is not copied. Features of layers are
    those of the layers that take part, so that their number is that of the draw, and M in evaluation.
    Raises: WrongUsage where depths or widths do not fit.
    """

    def __init__(self, predecessor, successor):
        ours, theirs = successor.config, predecessor.config
        if theirs.layers % ours.layers or ours.hidden != theirs.hidden:
            raise WrongUsage(f"need a successor of the predecessor's width whose depth divides the predecessor's: "
                             f"successor {ours.layers}x{ours.hidden}, predecessor {theirs.layers}x{theirs.hidden}")
        self.predecessor = predecessor              # first, so that its dropouts keep their numbers
        self.layers = successor.layers
        self.config = ours
        number_dropouts(self)

    def __call__(self, batch, run):
        whole = copy.copy(self.predecessor)         # shallow: the same parameters
        whole.layers = self.chosen(run.decisions)
        return whole(batch, replace(run, decisions=None))

    def chosen(self, decisions):
        """The layers that take part."""
        if decisions is None:
            return self.layers
        if len(decisions) != len(self.layers):
            raise ValueError(f"need a decision for each of {len(self.layers)} modules, got {len(decisions)}")
        r, before = len(self.predecessor.layers) // len(self.layers), self.predecessor.layers
        return [part for i, new in enumerate(decisions)
                for part in (self.layers[i:i + 1] if new else before[i * r:(i + 1) * r])]

    def successor(self):
        """The replaced model by itself: the successor's layers between the predecessor's embeddings, pooler and head."""
        around = {name: array for name, array in self.predecessor.arrays().items() if not name.startswith("layers.")}
        layers = {name: array for name, array in self.arrays().items() if name.startswith("layers.")}
        like = self.parameters()[0].array
        made = type(self.predecessor)(self.predecessor.config.but(layers=self.config.layers), seed=None)
        return made.to(xp_of(like), like.dtype).load(around | layers)
