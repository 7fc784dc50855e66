"""Pruning heads (Michel et al. 2019): which heads a loss can do without. As printed, sum by sum: `reference/michel.py`.

    attention(x) = sum_h xi_h Att_h(x) W_h + b                              a gate xi_h = 1 for each head
    I_h = E_x |dL(x)/dxi_h| = E_x |Att_h(x)^T dL(x)/dAtt_h(x)|              importance, by a backward pass alone
    I_h / (|I of the layer| + 1e-20)                                        what heads of all layers are ranked by

`head_products` differentiates the gates, `head_products_by_context` takes the product on the right: the same numbers.
Both keep them by example and token, (B, A, T), and three codes add them up differently:

    example   1/N sum_x |sum_t|      the paper
    token     sum_x sum_t ||         branch `paul` of pmichel31415/pytorch-pretrained-BERT, but for a factor a layer
    batch     |sum_x sum_t|          huggingface/transformers-research-projects bertology/run_bertology.py, whose
                                     gates' gradient is never set back to 0: over all batches, and they cancel

Here L(x) is the loss of one example, so that a batch's loss is their sum. Dropout is off. Padded tokens have no part:
nothing reads them, so their gradient is 0.
"""

import copy

import numpy as np

from tinydistill.backend import to_host, xp_of
from tinydistill.errors import WrongUsage
from tinydistill.features import Pass
from tinydistill.nn import SelfAttention
from tinydistill.tensor import Tensor, gradients

VERSIONS = ("example", "token", "batch")
STEP = 0.1                                          # the share of all heads that goes at a time


# ---------------------------------------------------------------- gates

class GatedAttention(SelfAttention):
    """Attention whose heads are multiplied by `note`, a gate, before they are put together."""

    def join(self, context):
        return super().join(context * self.note)


class WatchedAttention(SelfAttention):
    """Attention that appends what its heads have read to `note`, a list."""

    def join(self, context):
        self.note.append(context)
        return super().join(context)


def gated(model, gates):
    """The same model, its parameters shared, with a gate on every head.

    Shapes: one gate a layer, array or Tensor, that broadcasts against (B, A, T, K).
    """
    return _seen_as(model, GatedAttention, gates)


def _seen_as(model, kind, notes):
    view, view.layers = copy.copy(model), []
    for layer, note in zip(model.layers, notes, strict=True):
        if layer.attention.heads:                   # a layer without heads stays as it is
            layer, attention = copy.copy(layer), layer.attention
            layer.attention = object.__new__(kind)
            vars(layer.attention).update(vars(attention), note=note)
        view.layers.append(layer)
    return view


def head_products(model, batch, loss, needs):
    """dL/dxi of a gate for each head, example and token: one (B, A, T) for each layer.

    loss(features, batch) is the sum over the batch's examples, a scalar Tensor; needs: the features that it reads.
    """
    (B, T), like = batch.ids.shape, model.parameters()[0].array
    gates = [Tensor(xp_of(like).ones((B, layer.attention.heads, T, 1), like.dtype), requires_grad=True)
             for layer in model.layers]
    found = gradients(loss(gated(model, gates)(batch, Pass(needs)), batch), gates)
    return [xp_of(like).zeros(gate.shape[:3], like.dtype) if g is None else g[..., 0] for gate, g in zip(gates, found)]


def head_products_by_context(model, batch, loss, needs):
    """Att_h^T dL/dAtt_h, by example and token: what `head_products` is, without a gate."""
    (B, T), like, notes = batch.ids.shape, model.parameters()[0].array, [[] for _ in model.layers]
    value = loss(_seen_as(model, WatchedAttention, notes)(batch, Pass(needs)), batch)
    contexts = [context for seen in notes for context in seen]          # one for each layer that came to its end
    found = iter(zip(contexts, gradients(value, contexts)))
    return [_product(*next(found)) if seen else xp_of(like).zeros((B, layer.attention.heads, T), like.dtype)
            for layer, seen in zip(model.layers, notes)]


def _product(context, gradient):
    """Shapes: (B, A, T, K) twice -> (B, A, T); None, where no loss reads the context, is 0."""
    return (context.array * (0.0 if gradient is None else gradient)).sum(axis=-1)


# ---------------------------------------------------------------- importance

def head_scores(products, version="example"):
    """I_h of one layer from its products. Shapes: (B, A, T) -> (A,).

    >>> products = np.array([[[3.0, -1.0], [2.0, 1.0]], [[-3.0, 1.0], [0.0, 1.0]]])     # 2 examples, 2 heads, 2 tokens
    >>> [head_scores(products, version).tolist() for version in VERSIONS]
    [[2.0, 2.0], [8.0, 4.0], [0.0, 4.0]]
    """
    return _whole(_part(products, version), len(products), version)


def _part(products, version):
    """What a batch adds."""
    if version not in VERSIONS:
        raise WrongUsage(f"need a version of head importance out of {', '.join(VERSIONS)}; got {version!r}")
    if version == "example":
        return abs(products.sum(axis=2)).sum(axis=0)
    return abs(products).sum(axis=(0, 2)) if version == "token" else products.sum(axis=(0, 2))


def _whole(total, examples, version):
    """What the sum over batches means."""
    return total / examples if version == "example" else abs(total)


def importance(model, batches, loss, needs, version="example", normalised=True, products=head_products):
    """I_h of every head over all batches: one NumPy array (A,) for each layer.

    batches: NumPy. loss, needs: see `head_products`. normalised: by the layer's length, as ranking wants it.
    """
    totals, examples, xp = None, 0, xp_of(model.parameters()[0].array)
    for batch in batches:
        parts = [_part(layer, version) for layer in products(model, batch.to(xp), loss, needs)]
        totals = parts if totals is None else [total + part for total, part in zip(totals, parts)]
        examples += len(batch)
    if totals is None:
        raise WrongUsage("need at least one batch to measure heads by")
    scores = [to_host(_whole(total, examples, version)) for total in totals]
    return [layer / (np.sqrt((layer ** 2).sum()) + 1e-20) for layer in scores] if normalised else scores


# ---------------------------------------------------------------- which heads go

def ranking(scores):
    """(layer, head) of every head, the least important first; among equals the one further down."""
    heads = [(l, h) for l, layer in enumerate(scores) for h in range(len(layer))]
    return sorted(heads, key=lambda head: scores[head[0]][head[1]])


def least(scores, count, one_a_layer=False):
    """{layer: heads, ascending} of the `count` least important heads. one_a_layer: the last head of a layer stays.

    >>> scores = [np.array([0.9, 0.1]), np.array([0.2, 0.3])]
    >>> least(scores, 3), least(scores, 2, one_a_layer=True)
    ({0: (1,), 1: (0, 1)}, {0: (1,), 1: (0,)})
    """
    left, chosen = [len(layer) for layer in scores], {}
    for l, h in ranking(scores):
        if count and left[l] > one_a_layer:
            chosen.setdefault(l, []).append(h)
            left[l], count = left[l] - 1, count - 1
    if count:
        raise WrongUsage(f"need {count} more heads to take out than can go")
    return {l: tuple(sorted(heads)) for l, heads in sorted(chosen.items())}


def steps(scores, keep, step=STEP, one_a_layer=False):
    """[{layer: heads}]: what goes, a share `step` of all heads at a time, until a share `keep` is left.

    Every step's heads are numbered as in the model that the steps before it have left. The scores of those that stay
    are not measured again (whether the paper does is unverified).

    >>> steps([np.array([0.1, 0.3, 0.2, 0.4])], keep=0.5, step=0.25)
    [{0: (0,)}, {0: (1,)}]
    """
    if not (0 <= keep <= 1 and 0 < step <= 1):
        raise WrongUsage(f"need a share of heads to keep from 0 to 1 and steps above 0, at most 1; "
                         f"got {keep} and {step}")
    heads = sum(map(len, scores))
    done, most, found = 0, heads - round(keep * heads), []
    while done < most:
        count = min(most, max(round((len(found) + 1) * step * heads), done + 1)) - done
        found.append(least(scores, count, one_a_layer))
        scores = [np.delete(layer, found[-1].get(l, ())) for l, layer in enumerate(scores)]
        done += count
    return found
