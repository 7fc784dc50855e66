"""Through the layers of an encoder, no further than asked."""

from tinydistill import ops
from tinydistill.features import PER_LAYER


def encode(layers, x, features, run):
    """What the layers make of x (B, T, D), as far as `run.needs` asks; returned is the output of the last of them.

    Whatever is needed of a layer is kept in `features`. A pass stops behind the projections of its last layer where
    nobody asks for what that layer makes of them. What a projection gives beyond the three, its layer gets back.
    """
    depth, needs = len(layers), run.needs
    last, whole = needs.extent(depth)
    wanted = {name: needs.layers(name, depth) for name in PER_LAYER}
    mask = features.mask[:, None, None, :]                                              # (B, 1, 1, T): keys
    for l, layer in enumerate(layers[:last + 1]):
        queries, keys, values, *more = layer.attention.project(x)                       # each (B, A, T, K)
        for name, projected in (("queries", queries), ("keys", keys), ("values", values)):
            if l in wanted[name]:
                getattr(features, name)[l] = projected
        if l in wanted["scores"]:
            features.scores[l] = ops.scaled_product(queries, keys)                      # (B, A, T, T)
        if l == last and not whole:
            break
        x = layer(x, queries, keys, values, *more, mask, run)
        if l in wanted["hidden"]:
            features.hidden[l] = x
    return x
