"""Learning-rate schedules: how they have been got wrong."""

import numpy as np

from tinydistill_reference.mistakes import computes, sets

JUMP = "the peak is never reached: the rate jumps down where the warm-up ends"
NO_JUMP = "rates between the warm-up and the end are higher than in the published runs"
FIRST = "the first update is no longer of rate 0: all rates are those of the step after"
WARM_UP_DECAYS = "google-research/electra model/optimization.py create_optimizer"
ISSUES = "https://github.com/"


def wrong(name, flag, bug, effect, source, rate):
    """rate(s, S, w): of an array of steps."""
    def forward(step, steps, warmup):
        with np.errstate(all="ignore"):
            return rate(step.astype(float), float(steps), float(warmup)) * np.ones(step.shape)
    return computes(f"schedule.{name}", flag, bug, effect, source, forward)


def warmed(then, first=lambda s, w: s / w):
    return lambda s, S, w: np.where(s < w, first(s, w), then(s, S, w))


def line(s, S, w):
    return (S - s) / (S - w)


def bert_line(s, S, w):
    return 1 - s / S


def mobile_line(s, S, w):
    return (1 - 1e-4) * (1 - s / S) + 1e-4


def one(s, S, w):
    return 1 + 0 * s


def later(rate):
    return lambda s, S, w: rate(s + 1, S, w)


def common(name, then):
    """What can go wrong with a warm-up before any decay."""
    return (
        wrong(name, "counts_from_one", "the first update is step 1", FIRST, ISSUES + "google-research/bert/issues/1293",
              later(warmed(then))),
        wrong(name, "warm_up_one_longer", "(s + 1)/w during the warm-up, s as it is after it",
              "the peak comes one update early, and lasts for two", "constructed",
              warmed(then, lambda s, w: (s + 1) / w)),
        wrong(name, "no_warm_up", "the warm-up is left out",
              "the largest steps come first, where the moments know least", "constructed", then),
        wrong(name, "whole_steps_only", "s // w: a division of integers",
              "no update before the warm-up ends, then the peak", "constructed", warmed(then, lambda s, w: s // w)),
    )


LINEAR = common("linear", line) + (
    wrong("linear", "decays_from_step_0", "1 - s/S after the warm-up", JUMP,
          ISSUES + "huggingface/transformers/issues/3856", warmed(bert_line)),
    wrong("linear", "warm_up_times_decay", "min(1, s/w) (1 - s/S)", JUMP + ", and the warm-up is no line",
          WARM_UP_DECAYS, lambda s, S, w: np.where(s < w, s / w, 1.0) * (1 - s / S)),
    wrong("linear", "decays_too_slowly", "1 - (s - w)/S: the decay takes S steps, and begins after the warm-up",
          "the last rate is w/S, not 0", "constructed", warmed(lambda s, S, w: 1 - (s - w) / S)),
    wrong("linear", "never_decays", "the warm-up is never over: the rate stays at the peak",
          "the last steps are as long as the first", ISSUES + "facebookresearch/ParlAI/pull/4384", warmed(one)),
    wrong("linear", "interchanged", "the number of warm-up steps and that of all steps are interchanged",
          "the rate grows until the end", ISSUES + "WasifurRahman/BERT_multimodal_transformer/pull/22",
          lambda s, S, w: np.where(s < S, s / S, (w - s) / np.where(w == S, 1, w - S))),
    wrong("linear", "one_step_short", "a number of steps that was rounded down: S - 1", "the last update has rate 0",
          ISSUES + "deepset-ai/FARM/issues/46",
          lambda s, S, w: np.where(s < w, s / w, np.maximum(0, S - 1 - s) / np.maximum(1, S - 1 - w))),
    wrong("linear", "counts_micro_batches", "the schedule moves with every micro-batch of two",
          "warm-up and decay are over after half of the training", ISSUES + "huggingface/accelerate/issues/963",
          lambda s, S, w: np.where(2 * s < w, 2 * s / w, np.maximum(0, S - 2 * s) / (S - w))),
)
BERT_ADAM = common("bert_adam", line) + (
    wrong("bert_adam", "decays_from_step_0", "1 - p after the warm-up", JUMP,
          "pytorch_pretrained_bert optimization.py warmup_linear, in its first versions", warmed(bert_line)),
    wrong("bert_adam", "warm_up_is_a_share_of_a_share", "p < w: the count of warm-up steps is taken for a share",
          "the warm-up is never over", "constructed", lambda s, S,
          w: np.where(w > 0, s / S / np.where(w > 0, w, 1), 1 - s / S)),
)
BERT = common("bert", bert_line) + (
    wrong("bert", "decays_from_the_peak", "(S - s) / (S - w), as in transformers", NO_JUMP,
          ISSUES + "tensorflow/models/pull/9709, which asks for it", warmed(line)),
    wrong("bert", "warm_up_times_decay", "min(1, s/w) (1 - s/S)", "the warm-up is no line", WARM_UP_DECAYS,
          lambda s, S, w: np.where(s < w, s / w, 1.0) * (1 - s / S)),
)
MOBILEBERT = common("mobilebert", mobile_line) + (
    wrong("mobilebert", "ends_at_0", "1 - s/S", "the last rate is 0", "constructed", warmed(bert_line)),
    wrong("mobilebert", "not_below_the_end", "max(e, 1 - s/S)", "the end is reached by a line that is too steep",
          "constructed", warmed(lambda s, S, w: np.maximum(1e-4, 1 - s / S))),
    wrong("mobilebert", "end_added", "1 - s/S + e", "rates above the peak", "constructed",
          warmed(lambda s, S, w: 1 - s / S + 1e-4)),
    wrong("mobilebert", "end_as_power", "the end is given as the power of the line", "the rate hardly decays at all",
          ISSUES + "ThilinaRajapakse/simpletransformers/issues/997",
          warmed(lambda s, S, w: (1 - 1e-4) * np.maximum(0, 1 - s / S) ** 1e-4 + 1e-4)),
)
CONSTANT = tuple(trap for trap in common("constant", one) if trap.flag != "warm_up_one_longer") + (     # the same there
    wrong("constant", "decays", "a decay after the warm-up", "the second half of the steps hardly moves", "constructed",
          warmed(line)),
    wrong("constant", "never_warm", "s/w without an end", "the rate grows without bound", "constructed",
          lambda s, S, w: np.where(w > 0, s / np.where(w > 0, w, 1), 1)),
)


def layers(flag, bug, effect, source, rate):
    def forward(layer, depth, factor):
        return np.where(layer == depth, 1.0, rate(layer.astype(float), depth, factor))
    return computes("schedule.layerwise", flag, bug, effect, source, forward)


LAYERWISE = (
    sets("schedule.layerwise", "one_factor_more", "the head lies two factors above the last layer",
         "every layer learns more slowly than it should", ISSUES + "google-research/electra/issues/64", gap=1),
    layers("one_factor_less", "the last layer is as fast as the head", "every layer learns faster than it should",
           "constructed", lambda l, L, f: f ** (L - 1 - l)),
    layers("upside_down", "f^l: the last layer is the slowest", "what is nearest to the task learns the least",
           "constructed", lambda l, L, f: f ** (l + 2)),
    layers("embeddings_like_layer_0", "the embeddings are as fast as layer 0", "the embeddings drift", "constructed",
           lambda l, L, f: f ** (L - np.maximum(l, 0))),
    layers("embeddings_like_the_head", "what has no layer number learns at the full rate", "the embeddings drift",
           ISSUES + "allenai/rslearn/pull/648", lambda l, L, f: np.where(l < 0, 1.0, f ** (L - l))),
    layers("not_a_power", "1 - (1 - f)(L - l): a line in the place of a power", "the lowest layers go uphill",
           "constructed", lambda l, L, f: 1 - (1 - f) * (L - l)),
)
TRAPS = LINEAR + BERT_ADAM + BERT + MOBILEBERT + CONSTANT + LAYERWISE
