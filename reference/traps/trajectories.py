"""Ten steps: how training loops have been got wrong. One mistake a method at least is about what it trains on."""

import numpy as np

from tinydistill_reference import schedules
from tinydistill_reference.mistakes import reads, sets
from tinydistill_reference.optimizers import adam_weight_decay, adamw, clip_joint_norm, norm
from tinydistill_reference.trajectories import decays

MINILM, TINYBERT, DISTILBERT, PKD, TANG = (
    f"trajectory.{method}" for method in ("minilm", "tinybert", "distilbert", "pkd", "tang"))


def looped(*, optimizer=adamw, decaying=decays, seen=lambda history: history, ahead=0, clipped=None,
           trained=lambda name: True, unreached=False, coupled=False):
    """A loop like that of `trajectories.py`, with one thing in it another.

    seen(gradients so far) -> those that the optimiser takes; ahead: of how many steps the schedule is; clipped: another
    way to clip; unreached: weights that the loss does not reach have a gradient of 0; coupled: decay in the gradient.
    """
    def train(objective, steps, *, learning_rate, warmup, clip, decay, eps, beta1=0.9, beta2=0.999, **weights):
        w, history, losses = dict(weights), {}, []
        places = np.minimum(np.arange(steps) + ahead, steps)
        rates = [learning_rate * f for f in schedules.linear(places, steps=steps, warmup=warmup).tolist()]
        for step in range(steps):
            loss, gradients = objective(step, w)
            losses.append(loss)
            if unreached:
                gradients = {name: gradients.get(name, 0 * x) for name, x in w.items()}
            values = (clipped or clip_joint_norm)(*gradients.values(), clip=clip) if clip else list(gradients.values())
            for name, g in zip(gradients, values):
                own = decay if decaying(name) else 0.0
                history[name] = [*history.get(name, ()), g + own * w[name] if coupled else g]
                if trained(name):
                    taken = seen(history[name])
                    first = w[name] if len(taken) == 1 else weights[name]
                    w[name] = optimizer(first, taken, rates[step + 1 - len(taken):step + 1], eps=eps,
                                        decay=0.0 if coupled else own, beta1=beta1, beta2=beta2)[-1]
        return {"losses": np.array(losses)} | {f"final.{name}": x for name, x in w.items()}
    return train


def loop(equation, flag, bug, effect, source, **changes):
    train = looped(**changes)
    return sets(equation, flag, bug, effect, source, train=lambda inputs, attrs: train)


def each_alone(*gradients, clip):
    return [g * min(1, clip / (norm(g) + 1e-6)) for g in gradients]


def sums(history):
    return [sum(history[:i + 1]) for i in range(len(history))]


TRAPS = (
    loop(MINILM, "unreached_decays", "weights that the loss does not reach have gradients of 0, not none, and so decay",
         "the last layer's feed-forward shrinks step by step", "https://github.com/pytorch/pytorch/issues/28294",
         unreached=True),
    loop(MINILM, "state_reset", "an optimiser is made anew for every step", "Adam without moments: steps of sign(g)",
         "https://github.com/alan-turing-institute/deepsensor/issues/47", seen=lambda history: history[-1:]),
    loop(MINILM, "schedule_ahead", "the schedule steps before the optimiser does", "the first rate is skipped",
         "https://github.com/facebookresearch/ParlAI/issues/2042", ahead=1),
    reads(MINILM, "queries_for_values", "the value relation is one of the teacher's queries",
          "the wrong thing is learned", "constructed", teacher_values=lambda inputs, attrs: inputs["teacher_queries"]),
    loop(TINYBERT, "projection_not_trained", "the maps to the teacher's width are not among the optimiser's parameters",
         "the student learns through random maps", "https://github.com/roymiles/Simple-Recipe-Distillation/issues/1",
         trained=lambda name: not name.startswith("tinybert.")),
    loop(TINYBERT, "decay_everywhere", "biases and layer norms decay, too", "gains of norms go to 0",
         "https://github.com/huggingface/transformers/issues/4360", decaying=lambda name: True),
    loop(TINYBERT, "clip_alone", "each gradient is clipped by its own norm, not all by their joint one",
         "directions change, and the clip is weaker",
         "huawei-noah/Pretrained-Language-Model TinyBERT/transformer/optimization.py",
         clipped=each_alone),
    reads(TINYBERT, "layers_reversed", "the teacher's layers are paired with the student's from the top down",
          "each layer learns from another than its own", "constructed",
          teacher_hidden=lambda inputs, attrs: inputs["teacher_hidden"][:, ::-1],
          teacher_scores=lambda inputs, attrs: inputs["teacher_scores"][:, ::-1]),
    loop(DISTILBERT, "gradients_accumulate", "gradients are not set to 0 between steps",
         "every step goes along the sum of all gradients so far", "https://github.com/wenet-e2e/wekws/pull/73",
         seen=sums),
    loop(DISTILBERT, "l2_decay", "decay is part of the gradient: Adam with L2 in the place of AdamW",
         "weights with large gradients hardly decay", "Loshchilov and Hutter 2019, section 2", coupled=True),
    loop(DISTILBERT, "no_bias_correction", "moments without bias correction", "the first steps are three times as long",
         "google-research/bert, optimization.py AdamWeightDecayOptimizer", optimizer=adam_weight_decay),
    reads(DISTILBERT, "no_mask", "padding is attended to, and counts", "the loss depends on the longest sequence",
          "https://github.com/peremartra/optipfair/issues/34", mask=lambda inputs, attrs: np.ones_like(inputs["mask"])),
    loop(PKD, "no_clip", "gradients are not clipped", "steps after an outlier go along it", "constructed",
         clipped=lambda *gradients, clip: list(gradients)),
    loop(PKD, "constant_rate", "no schedule: the peak rate from the first step to the last",
         "no warm-up; the last steps do not settle", "constructed",
         optimizer=lambda w, gradients, rates, **settings: adamw(w, gradients, [2.0 ** -6] * len(rates), **settings)),
    sets(PKD, "alpha_swapped", "alpha weighs the labels, 1 - alpha the teacher", "the teacher hardly counts",
         "constructed", alpha=lambda inputs, attrs: 0.25),
    sets(PKD, "no_patience", "the patience loss is left out", "plain distillation: layers learn nothing",
         "constructed", beta=0.0),
    loop(TANG, "eps_uncorrected", "eps is added to the root of the uncorrected second moment",
         "the first steps are up to thirty times shorter where gradients are small",
         "huggingface/transformers v4 optimization.py AdamW",
         optimizer=lambda *arrays, **settings: adamw(*arrays, eps_joins="uncorrected", **settings)),
    sets(TANG, "labels_only", "alpha is 1: the teacher's logits are not read", "fine-tuning, no distillation",
         "constructed", alpha=1.0),
    reads(TANG, "stale_teacher", "the teacher's logits are those of the batch before", "noise is learned",
          "constructed", teacher_logits=lambda inputs, attrs: np.roll(inputs["teacher_logits"], 1, axis=0)),
)
