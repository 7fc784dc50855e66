"""Through the layers of an encoder, no further than asked."""

from tinydistill import ops
from tinydistill.features import PER_LAYER

PROJECTED = ("queries", "keys", "values", "scores")


def encode(layers, x, features, run, attention_mask=None):
    """What the layers make of x (B, T, D), as far as `run.needs` asks; returned is the output of the last of them.

    Whatever is needed of a layer is kept in `features`. A pass stops behind the projections of its last layer where
    nobody asks for what that layer makes of them. What a projection gives beyond the three, its layer gets back.
    attention_mask (B, T, T), True where a query may see a key; None: every query sees all real tokens.
    `run.decisions`, one a layer: one that is dropped is the identity, so that its hidden states are its input; what is
    asked of its projections is computed from that input.
    """
    depth, needs, kept = len(layers), run.needs, run.decisions
    if kept is not None and len(kept) != depth:
        raise ValueError(f"need one decision for each of {depth} layers, got {len(kept)}")
    last, whole = needs.extent(depth)
    wanted = {name: needs.layers(name, depth) for name in PER_LAYER}
    mask = features.mask[:, None, None, :] if attention_mask is None else attention_mask[:, None]   # (B, 1, 1 or T, T)
    for l, layer in enumerate(layers[:last + 1]):
        passes = kept is None or kept[l]
        if passes or any(l in wanted[name] for name in PROJECTED):
            queries, keys, values, *more = layer.attention.project(x)                   # each (B, A, T, K)
            for name, projected in (("queries", queries), ("keys", keys), ("values", values)):
                if l in wanted[name]:
                    getattr(features, name)[l] = projected
            if l in wanted["scores"]:
                features.scores[l] = ops.scaled_product(queries, keys)                  # (B, A, T, T)
        if l == last and not whole:
            break
        if passes:
            x = layer(x, queries, keys, values, *more, mask, run)
        if l in wanted["hidden"]:
            features.hidden[l] = x
    return x
