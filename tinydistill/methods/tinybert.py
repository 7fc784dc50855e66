"""TinyBERT (Jiao et al. 2020): embeddings, hidden states and attention scores layer by layer, then the prediction.

On a corpus: the general distillation, without the prediction. On a task: the same on (augmented) examples, then the
prediction alone.
"""

from tinydistill.losses import TERMS
from tinydistill.methods import bert, layer_maps
from tinydistill.methods.minilm import equal_heads
from tinydistill.methods.stage import MASKED, TASK, TEXT, Method, Recipe, Stage


def check(student, teacher, **settings):
    """Scores are compared head by head, and the layer map is uniform: M divides L."""
    equal_heads(student, teacher)
    layer_maps.uniform(student.layers, teacher.layers)


_TRANSFORMER = tuple((1.0, TERMS[f"tinybert.{name}"]) for name in ("embedding", "hidden", "attention"))
# task_distill.py and general_distill.py: one biased map for all, padding counted, scores of -100 and less set to 0.
_OFFICIAL = tuple((1.0, TERMS[f"tinybert.{name}"].under("official").but(projection="tinybert.fit_dense", projection_bias=True))
                  for name in ("embedding", "hidden")) + ((1.0, TERMS["tinybert.attention_official"]),)

# README of the published code: BertAdam (each tensor's gradient clipped to 1, no bias correction), warm-up 0.1.
GENERAL = {"paper": Recipe(steps=100, warmup=10, epochs=3, batch_size=256, learning_rate=5e-5, max_length=128,
                           optimizer="bert-adam"),
           "laptop": Recipe(steps=600, batch_size=32, learning_rate=1e-3, warmup=60, max_length=64)}
INTERMEDIATE = {"paper": Recipe(steps=100, epochs=20, batch_size=32, learning_rate=5e-5, max_length=128,
                                optimizer="bert-adam", schedule="constant"),
                "official": Recipe(steps=100, epochs=10, batch_size=32, learning_rate=5e-5, max_length=128,
                                   optimizer="bert-adam", schedule="constant"),
                "laptop": Recipe(steps=100, epochs=3, batch_size=32, learning_rate=2e-4, warmup=10, max_length=64)}
PREDICTION = {"paper": Recipe(steps=100, warmup=10, epochs=3, batch_size=32, learning_rate=3e-5, max_length=128,
                              optimizer="bert-adam"),
              "laptop": bert.FINETUNE["laptop"]}


def general():
    """Section 3.2, general distillation."""
    return (Stage("general", _TRANSFORMER, GENERAL, official=_OFFICIAL, layer_map=layer_maps.uniform, reads=TEXT,
                  official_reads=MASKED, official_masking="one"),)


def task_specific():
    """Section 3.2, task-specific distillation in its two steps."""
    return (Stage("intermediate", _TRANSFORMER, INTERMEDIATE, official=_OFFICIAL, layer_map=layer_maps.uniform, reads=TASK,
                  head="task"),
            Stage("prediction", ((1.0, TERMS["tinybert.prediction"]),), PREDICTION, reads=TASK, head="task"))


method = Method(
    "tinybert", "Jiao et al. 2020, TinyBERT: Distilling BERT for Natural Language Understanding",
    on_text=general, on_task=task_specific, check=check, equal_heads=True,
    grid={"lr": (1e-5, 2e-5, 3e-5), "batch_size": (16, 32)})
