"""Learning-rate schedules as published: a factor of the peak rate by step, of which the first update is step 0.

    s/w for s < w, then
        linear      (S - s) / (S - w)               transformers get_linear_schedule_with_warmup
        bert_adam   (1 - s/S) / (1 - w/S)           pytorch_pretrained_bert's BertAdam: the same line
        bert        1 - s/S                         google-research/bert: down from 1 - w/S, a drop
        mobilebert  (1 - e)(1 - s/S) + e            google-research mobilebert, e = 1/10000
        constant    1

    layerwise       f^(L - l) of layer l, f^(L + 1) of the embeddings below layer 0, 1 of the head, layer L

Shapes: step (n,) integers, layer (n,) integers, -1 for the embeddings and L for the head -> (n,). steps S, warmup w.

Traps
  - in all of them the first update has rate 0 where there is a warm-up, and the peak comes at step w, if at all
  - `linear` and `bert` agree only without a warm-up
"""

import numpy as np


def warmed_up(step, warmup, then):
    """s/w for s < w, then what `then` says."""
    return np.array([s / warmup if s < warmup else then(s) for s in step.tolist()])


def linear(step, *, steps, warmup):
    return warmed_up(step, warmup, lambda s: (steps - s) / (steps - warmup))


def bert_adam(step, *, steps, warmup):
    return warmed_up(step, warmup, lambda s: (1 - s / steps) / (1 - warmup / steps))


def bert(step, *, steps, warmup):
    return warmed_up(step, warmup, lambda s: 1 - s / steps)


def mobilebert(step, *, steps, warmup, end=1e-4):
    return warmed_up(step, warmup, lambda s: (1 - end) * (1 - s / steps) + end)


def constant(step, *, steps, warmup):
    return warmed_up(step, warmup, lambda s: 1.0)


def layerwise(layer, *, depth, factor, gap=0):
    """gap: how many factors lie between the head and the last layer beyond the first; ELECTRA's code has one more."""
    return np.array([1.0 if l == depth else factor ** (depth + gap - l) for l in layer.tolist()])
