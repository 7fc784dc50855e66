"""Learning-rate schedules: conventions and cases. The formulas: `schedules.py`."""

import numpy as np

from tinydistill_reference.equation import Case, Convention, Equation
from tinydistill_reference.schedules import bert, bert_adam, constant, layerwise, linear, mobilebert

TRAINING = "huggingface/transformers src/transformers/optimization.py "
LENGTHS = (("01-usual", "warm-up of 3 of 11 steps", 11, 3), ("02-none", "no warm-up", 7, 0),
           ("03-one", "a warm-up of one step: the first update has rate 0, the second the peak", 5, 1),
           ("04-most", "a warm-up of all steps but one", 6, 5), ("05-long", "a hundred steps, some of them", 100, 10),
           ("06-half", "warm-up of half the steps", 8, 4))


def cases(numbers):
    """Every step from the first to the one after the last; of the long one the edges."""
    for id, comment, steps, warmup in LENGTHS:
        asked = np.arange(steps + 1) if steps < 50 else np.array([0, 1, warmup - 1, warmup, warmup + 1, 55, 99, 100])
        yield Case(id, comment, {"step": asked}, {"steps": steps, "warmup": warmup})
    yield Case("07-order", "steps out of order, one of them twice", {"step": np.array([9, 2, 0, 5, 2, 10, 3])},
               {"steps": 11, "warmup": 3})


def layer_cases(numbers):
    yield Case("01-twelve", "twelve layers", {"layer": np.arange(-1, 13)})
    yield Case("02-three", "three layers, half a factor each", {"layer": np.arange(-1, 4)}, {"depth": 3, "factor": 0.5})
    yield Case("03-same", "a factor of 1: all layers alike", {"layer": np.arange(-1, 4)}, {"depth": 3, "factor": 1.0})
    yield Case("04-order", "layers out of order", {"layer": np.array([4, 0, 5, -1, 2])}, {"depth": 5, "factor": 0.75})


def schedule(name, paper, where, formula, forward, source):
    return Equation(f"schedule.{name}", paper, where, formula, forward, None, {"step": "(n,)"}, (), cases,
                    {"steps": 11, "warmup": 3}, {"paper": Convention({}, source)}, ("rates",))


EQUATIONS = (
    schedule("linear", "no paper: transformers", "get_linear_schedule_with_warmup",
             "s/w for s < w, then (S - s) / (S - w)", linear, TRAINING + "get_linear_schedule_with_warmup"),
    schedule("bert_adam", "no paper: pytorch_pretrained_bert", "schedule warmup_linear",
             "p/w' for p < w', then (1 - p) / (1 - w'), p = s/S, w' = w/S", bert_adam,
             "pytorch_pretrained_bert optimization.py, in a later version; TinyBERT"),
    schedule("bert", "Devlin et al. 2019", "appendix A.2, as google-research/bert computes it",
             "s/w for s < w, then 1 - s/S", bert, "google-research/bert optimization.py create_optimizer"),
    schedule("mobilebert", "Sun et al. 2020", "section on training, as google-research computes it",
             "s/w for s < w, then (1 - e)(1 - s/S) + e, e = 0.0001", mobilebert,
             "google-research mobilebert/optimization.py"),
    schedule("constant", "no paper: pytorch_pretrained_bert", "schedule warmup_constant", "s/w for s < w, then 1",
             constant, TRAINING + "get_constant_schedule_with_warmup"),
    Equation("schedule.layerwise", "Howard and Ruder 2018", "section on discriminative fine-tuning (unverified)",
             "f^(L - l) in layer l = 0 ... L - 1, f^(L + 1) in the embeddings (layer -1), 1 in the head (layer L)",
             layerwise, None, {"layer": "(n,)"}, (), layer_cases, {"depth": 12, "factor": 0.8},
             {"paper": Convention({}, "Howard and Ruder 2018: each layer by one factor more than the one above it"),
              "electra": Convention({"gap": 1}, "google-research/electra model/optimization.py _get_layer_lrs, whose "
                                    "authors call it a small mistake in issue 64")}, ("rates",)),
)
