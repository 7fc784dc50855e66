"""LayerDrop (Fan et al. 2020): layers that a model learned to do without, so that any depth can be taken from it.

    training:    y_l = layer_l(y_{l-1}) with probability 1 - p, else y_{l-1}    one draw a layer and pass, for the batch
    evaluation:  every layer of those that are there; nothing is rescaled

A dropped layer is the identity: its residual branches vanish, and it gets no gradient. All of them may be dropped. What
is drawn goes to a model as `Pass.decisions`, and the loop over its layers does the rest (`students/encode.py`).

Source: fairseq, modules/layer_drop.py and checkpoint_utils.py (as in kssteven418/I-BERT).
"""

from tinydistill.backend import random_bits, stream, xp_of
from tinydistill.errors import WrongUsage
from tinydistill.ops.dropout import kept

SITE = stream("layerdrop")


def drawn(rate, layers, seed, step):
    """Which layers this step keeps, a tuple of bools: layer l where U_l >= rate, U_l uniform by (seed, step, l).

    >>> drawn(0.0, 3, seed=0, step=0)
    (True, True, True)
    """
    if not 0 <= rate < 1:
        raise WrongUsage(f"need a rate of dropped layers of at least 0 and below 1, got {rate}")
    keep, _ = kept(random_bits(layers, seed, SITE, 0, step), rate)
    return tuple(map(bool, keep))


def every_other(layers, rate):
    """The layers, counted from 0, that are left where a share `rate` of them is taken out at even steps.

    Equation: without layer d where d mod floor(1 / rate) = 0.
    Source: Fan et al. 2020, "Every Other" (unverified); that d counts from 1, so that the first layer stays, is ours.

    >>> every_other(12, 0.5), every_other(6, 0.34)
    ((0, 2, 4, 6, 8, 10), (0, 2, 4))
    >>> every_other(6, 0.3), every_other(6, 0.0)
    ((0, 1, 3, 4), (0, 1, 2, 3, 4, 5))
    """
    if not 0 <= rate <= 0.5:
        raise WrongUsage(f"need a share of layers to take out from 0 to 0.5, got {rate}")
    return tuple(d - 1 for d in range(1, layers + 1) if not rate or d % int(1 / rate))


def subset(model, layers):
    """The model of these layers alone, in ascending order, with numbers of its own: an ordinary one of less depth.

    layers: numbers from 0. Its parameters are copies; it computes what `model` does where `decisions` keep these.
    """
    chosen, depth = sorted(set(layers)), model.config.layers
    if not chosen or len(chosen) < len(layers) or not 0 <= chosen[0] <= chosen[-1] < depth:
        raise WrongUsage(f"need some of the layers 0 to {depth - 1}, each once; got {list(layers)}")
    arrays, number = {}, {str(old): str(new) for new, old in enumerate(chosen)}
    for name, array in model.arrays().items():
        part, _, rest = name.partition(".")
        old, _, rest = rest.partition(".")
        if part != "layers":
            arrays[name] = array
        elif old in number:
            arrays[f"layers.{number[old]}.{rest}"] = array
    config, like = model.config, model.parameters()[0].array
    heads = {"heads_kept": tuple(config.heads_kept[l] for l in chosen)} if hasattr(config, "heads_kept") else {}
    return type(model)(config.but(layers=len(chosen), **heads), None).to(xp_of(like), like.dtype).load(arrays)
