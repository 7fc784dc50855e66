"""MobileBERT (Sun et al. 2020): feature maps and attention, layer beside layer, then what the teacher predicts.

`transfer` is how the layers are taken, before the masked language model learns from teacher and labels:
    progressive   a stage for each layer from the bottom, in which it learns and those below it nearly stand still
    joint         one stage for all layers
    auxiliary     no stage of their own: all losses of layers are added to the prediction's

In the stage of layer l the rate of a layer's parameters is, at step r of S,
    3 b(r) {0 above l, 1 in l, freeze below}          b(r) = min(0.9 + 0.1 sqrt(1 - r/S), 10 r/S)
and 0 outside the layers: embeddings and heads are the teacher's. b(0) = 0, so that a stage's first step trains nothing.
Published code runs all layers as one, with LAMB, which sets the moments of what has the rate 0 to 0: at the first step
of each layer's steps, of everything. Here every stage begins without moments, which is the same. The losses open one
step late there: `official` has the weight 0 at a stage's first step. Where the code computes the layer before then, at
the rate 0, the stage's own is logged.

Source: google-research/google-research mobilebert/distill_util.py, lamb_optimizer.py, run_pretraining.py and README,
for progressive transfer and its numbers, with weights of 100, 5000, 5 and 1 over the number of layers, and without
dropout. The others are not in it: their form, and weights of 1 under `paper`, are from memory of the paper, and their
recipes are made up of the parts of the published one. The paper also freezes lower layers entirely, freeze=0. All this
is unverified.
"""

import math
from functools import partial

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import layer_maps
from tinydistill.methods.stage import MASKED, Method, Recipe, Share, Stage

# README: batches of 2,048 rows of 512 tokens, LAMB at 1.5e-3; 240,000 steps through 24 layers, then 500,000.
DISTIL = {"paper": Recipe(steps=500_000, warmup=10_000, batch_size=2_048, learning_rate=1.5e-3, max_length=512,
                          optimizer="lamb", schedule="mobilebert"),
          "laptop": Recipe(steps=1_000, warmup=100, batch_size=32, learning_rate=1e-2, max_length=64, optimizer="lamb",
                           schedule="mobilebert")}
A_LAYER = {"paper": DISTIL["paper"].but(steps=10_000, warmup=0, schedule="constant"),
           "laptop": DISTIL["laptop"].but(steps=150, warmup=0, schedule="constant")}
JOINT = {"paper": DISTIL["paper"].but(steps=240_000, warmup=10_000), "laptop": DISTIL["laptop"].but(steps=600)}
AUXILIARY = {"paper": DISTIL["paper"].but(steps=740_000, warmup=10_000), "laptop": DISTIL["laptop"].but(steps=1_600)}
TRANSFERS = "progressive", "joint", "auxiliary"
OF_LAYERS = ((1.0, TERMS["mobilebert.feature_map"]), (1.0, TERMS["mobilebert.attention"]))


def check(student, teacher, **settings):
    """Layers are compared one by one, without a map, and their heads too."""
    ours, theirs = ("x".join(map(str, (c.layers, c.hidden, c.heads))) for c in (student, teacher))
    if ours != theirs:
        raise WrongUsage(f"mobilebert compares layers and heads one by one, without a map, and needs as many of them and "
                         f"equal widths: student {ours}, teacher {theirs}; write the student as {theirs}")


def official_of_layers(late=False):
    """Feature maps in three terms, and attention: the published code's weights, over the number of layers."""
    return tuple((Share(weight, late), TERMS[f"mobilebert.{name}"].under("official")) for weight, name in (
        (100.0, "feature_map_normalised"), (5000.0, "mean_transfer"), (5.0, "variance_transfer"), (1.0, "attention")))


def base(step, steps):
    """b(r): up over a tenth of the steps, then slowly down.

    >>> base(0, 100), base(5, 100), base(100, 100)
    (0.0, 0.5, 0.9)
    """
    return min(0.9 + 0.1 * math.sqrt(1 - step / steps), 10 * step / steps)


def rates(step, steps, config, layer, freeze):
    """The factor of each parameter in the stage of `layer`, by its name."""
    def rate(name):
        if not name.startswith("layers."):
            return 0.0
        below = layer - int(name.split(".")[1])
        return 3 * base(step, steps) * (0.0 if below < 0 else freeze if below else 1.0)
    return rate


def stages(transfer, freeze, next_sentence):
    """The layers in one of three ways, and the prediction; next_sentence is the weight of the pairs, for `--pairs`."""
    if transfer not in TRANSFERS:
        raise WrongUsage(f"need a transfer of mobilebert out of {', '.join(TRANSFERS)}; got {transfer!r}")
    learn = dict(reads=MASKED, head="pretraining" if next_sentence else "masked-lm", official_masking="counted",
                 official_drops=False)
    prediction = ((1.0, TERMS["mobilebert.pretraining"]),)
    pairs = ((next_sentence, hard_labels.next_sentence),) if next_sentence else ()
    as_run = tuple((weight, term.under("official")) for weight, term in prediction) + pairs
    if transfer == "auxiliary":
        return (Stage("distil", prediction + pairs + OF_LAYERS, AUXILIARY, official=as_run + official_of_layers(),
                      layer_map=layer_maps.one_to_one, **learn),)
    layers = Stage("transfer", OF_LAYERS, JOINT, official=official_of_layers(), layer_map=layer_maps.one_to_one, **learn)
    if transfer == "progressive":
        layers = Stage("layer", OF_LAYERS, A_LAYER, official=official_of_layers(late=True), each_layer="alone",
                       layer_map=layer_maps.one_to_one, rates=partial(rates, freeze=freeze), **learn)
    return layers, Stage("distil", prediction + pairs, DISTIL, official=as_run, **learn)


method = Method(
    "mobilebert", "Sun et al. 2020, MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices",
    on_text=stages, settings={"transfer": "progressive", "freeze": 0.1, "next_sentence": 0.0}, check=check,
    equal_heads=True, start="outside-encoder")
