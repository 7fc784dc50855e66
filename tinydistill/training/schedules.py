"""Learning-rate schedules: a factor of the peak rate by step, where step 0 is the first update. And by layer.

Three published "linear warm-up, linear decay" are here, of which two are one line: `linear` and `bert_adam` reach the
peak after the warm-up; `bert` has decayed meanwhile and drops there. With a warm-up the first update has rate 0 in all.
"""

import re

from tinydistill.errors import WrongUsage


def linear(step, steps, warmup):
    """Up from 0 over `warmup` steps, then straight down to 0 at `steps`.

    Equation: s/w for s < w, then (S - s)/(S - w).
    Source: transformers get_linear_schedule_with_warmup.

    >>> [round(linear(s, steps=6, warmup=2), 2) for s in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    return step / warmup if step < warmup else (steps - step) / (steps - warmup)


def bert_adam(step, steps, warmup):
    """The same line as `linear`, written in progress.

    Equation: p/w' for p < w', then (1 - p)/(1 - w'), with p = s/S and w' = w/S.
    Source: pytorch_pretrained_bert's BertAdam, schedule warmup_linear; TinyBERT.

    >>> [round(bert_adam(s, steps=6, warmup=2), 2) for s in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    progress, share = step / steps, warmup / steps
    return progress / share if progress < share else (1 - progress) / (1 - share)


def bert(step, steps, warmup):
    """Up from 0 over `warmup` steps, then on the straight line from 1 at step 0 to 0 at `steps`: a drop between them.

    Equation: s/w for s < w, then 1 - s/S.
    Source: google-research/bert optimization.py.

    >>> [round(bert(s, steps=6, warmup=2), 2) for s in range(6)]
    [0.0, 0.5, 0.67, 0.5, 0.33, 0.17]
    """
    return step / warmup if step < warmup else 1 - step / steps


def mobilebert(step, steps, warmup):
    """`bert` down to 1/10000 of the peak, not to 0.

    Equation: s/w for s < w, then (1 - e)(1 - s/S) + e, e = 0.0001.
    Source: google-research mobilebert/optimization.py, its default end_lr_rate. The rate of MobileBERT's knowledge
    transfer is `constant` (an end_lr_rate of 1).

    >>> [round(mobilebert(s, steps=6, warmup=2), 4) for s in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 0.6667, 0.3334, 0.0001]
    """
    return step / warmup if step < warmup else (1 - 1e-4) * (1 - step / steps) + 1e-4


def constant(step, steps, warmup):
    """Up from 0 over `warmup` steps, then 1.

    Source: without a warm-up BertAdam's schedule "none", that of TinyBERT's intermediate layers.

    >>> [constant(s, steps=6, warmup=2) for s in range(6)]
    [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    """
    return step / warmup if step < warmup else 1.0


SCHEDULES = {"linear": linear, "bert-adam": bert_adam, "bert": bert, "mobilebert": mobilebert, "constant": constant}


def get(name):
    """The schedule of that name: a function of (step, steps, warmup)."""
    if name not in SCHEDULES:
        raise WrongUsage(f"need a schedule out of {', '.join(SCHEDULES)}; got {name!r}")
    return SCHEDULES[name]


# ---------------------------------------------------------------- by layer

def layer_of(name):
    """The number of the layer that a parameter belongs to by its dotted name; None for embeddings, pooler and head.

    >>> layer_of("layers.3.attention.query.weight"), layer_of("pooler.weight")
    (3, None)
    """
    found = re.match(r"layers\.(\d+)\.", name)
    return int(found[1]) if found else None


def layerwise_decay(names, depth, factor):
    """{name: multiplier of the learning rate}: the further below the head a parameter lies, the slower it learns.

    Equation: factor^(depth - l) in layer l = 0 ... depth - 1, factor^(depth + 1) in the embeddings, which lie below
    layer 0, and 1 in pooler and head. A utility, of no distillation paper; `Optimizer.update` takes the result.

    >>> layerwise_decay(["embeddings.word.weight", "layers.0.x", "layers.1.x", "head.bias"], depth=2, factor=0.5)
    {'embeddings.word.weight': 0.125, 'layers.0.x': 0.25, 'layers.1.x': 0.5, 'head.bias': 1.0}
    """
    def height(name):
        layer = -1 if name.startswith("embeddings.") else layer_of(name)
        return depth if layer is None else layer

    return {name: float(factor) ** (depth - height(name)) for name in names}
