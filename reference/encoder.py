"""A stack of Transformer layers with its gradient by hand: what the printed models have in common.

A model is its Parts: how ids become embeddings, what a layer does, and what a head makes of the last hidden states.
Weights w are {name of Hugging Face: array}, features {"embeddings", "queries.0", ..., "hidden.1", "logits": array}, and
layers are counted from 0. A gradient may come in at every feature at once, and goes to every weight that it reaches:

    dL/dx_l = dL/dhidden_l + (d layer_{l+1} / dx_l)^T dL/dx_{l+1}           from the last layer down to the embeddings

Nothing is kept between forward and gradient: a gradient takes what its forward took and computes it again. It returns
dL/dx and puts those of weights into `found`, {name: gradient}; what is not in there has not been reached.
"""

from collections import namedtuple

from tinydistill_reference.conventions import need
from tinydistill_reference.hard_labels import cross_entropy, cross_entropy_gradient
from tinydistill_reference.linear import linear, linear_gradient

Parts = namedtuple("Parts", "layers embeddings embeddings_gradient layer layer_gradient head head_gradient")
Settings = namedtuple("Settings", "heads eps activation")
PER_LAYER = ("queries", "keys", "values", "scores", "hidden")


def put(found, name, gradient):
    """A weight that is read twice gets the sum of both gradients."""
    found[name] = found[name] + gradient if name in found else gradient


def applied(piece, x, w, name, **settings):
    """A piece that has a weight and a bias: a linear map, a norm."""
    return piece(x, w[f"{name}.weight"], w[f"{name}.bias"], **settings)


def applied_gradient(piece_gradient, dy, x, w, name, found, **settings):
    gradients = piece_gradient(dy, x, w[f"{name}.weight"], w[f"{name}.bias"], **settings)
    put(found, f"{name}.weight", gradients.get("weight", gradients.get("gain")))
    put(found, f"{name}.bias", gradients["bias"])
    return gradients["x"]


def dense(x, w, name):
    """x W^T + b."""
    return applied(linear, x, w, name)


def dense_gradient(dy, x, w, name, found):
    return applied_gradient(linear_gradient, dy, x, w, name, found)


def split(x, heads):
    B, T, D = x.shape
    return x.reshape(B, T, heads, D // heads).transpose(0, 2, 1, 3)                     # (B, A, T, K)


def joined(x):
    B, A, T, K = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, A * K)                                 # (B, T, D)


def depth(w, parts):
    """How many layers the weights are of."""
    return len({name.removeprefix(parts.layers).split(".")[0] for name in w if name.startswith(parts.layers)})


def features(w, ids, mask, token_types, settings, parts):
    """All features. Shapes: ids, mask, token_types (B, T)."""
    need(ids.shape == mask.shape == token_types.shape,
         f"ids, mask and token types of one shape (B, T): ids {ids.shape}, "
                                                       f"mask {mask.shape}, token types {token_types.shape}")
    need(mask.any(axis=1).all(), "at least one real token in every sequence of the mask")
    x = parts.embeddings(ids, token_types, w, settings)
    found = {"embeddings": x}
    for l in range(depth(w, parts)):
        made = parts.layer(x, mask, w, f"{parts.layers}{l}.", settings)
        found |= {f"{name}.{l}": made[name] for name in PER_LAYER}
        x = made["hidden"]
    logits = parts.head(x, w, settings)
    return found if logits is None else found | {"logits": logits}


def features_gradient(upstream, w, ids, mask, token_types, settings, parts):
    """{weight: gradient}, of the weights that upstream, {feature: gradient}, reaches."""
    seen, found, dx = features(w, ids, mask, token_types, settings, parts), {}, None
    for l in reversed(range(depth(w, parts))):
        dfeatures = {name: upstream[f"{name}.{l}"] for name in PER_LAYER if f"{name}.{l}" in upstream}
        if "logits" in upstream and l == depth(w, parts) - 1:
            dx = parts.head_gradient(upstream["logits"], seen[f"hidden.{l}"], w, settings, found)
        if dx is not None:
            dfeatures["hidden"] = dx + dfeatures.get("hidden", 0)
        if dfeatures:
            x = seen[f"hidden.{l - 1}"] if l else seen["embeddings"]
            dx = parts.layer_gradient(dfeatures, x, mask, w, f"{parts.layers}{l}.", settings, found)
    dx = upstream.get("embeddings", 0) + (0 if dx is None else dx)
    parts.embeddings_gradient(dx, ids, token_types, w, settings, found)
    return found


def masked_lm(w, ids, mask, token_types, labels, settings, parts):
    """-1/N sum_n log softmax(z_n)[y_n] over the N tokens that have a label, others being -100."""
    return cross_entropy(features(w, ids, mask, token_types, settings, parts)["logits"], labels)


def masked_lm_gradient(upstream, w, ids, mask, token_types, labels, settings, parts):
    """{weight: gradient}."""
    z = features(w, ids, mask, token_types, settings, parts)["logits"]
    dz = cross_entropy_gradient(upstream, z, labels)["student_logits"]
    return everywhere(features_gradient({"logits": dz}, w, ids, mask, token_types, settings, parts), w)


def everywhere(found, w):
    """With 0 for the weights that nothing reached."""
    return {name: found.get(name, 0 * x) for name, x in w.items()}
