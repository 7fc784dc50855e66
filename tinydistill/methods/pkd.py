"""BERT-PKD (Sun et al. 2019): patient distillation of [CLS] in the layers between, beside soft and hard labels.

    L = (1 - alpha) CE + alpha KD + beta PT
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import layer_maps
from tinydistill.methods.stage import TASK, Method, Recipe, Stage


def equal_width(student, teacher, **settings):
    """[CLS] is compared without a map, and the last layer is not: there has to be one before it."""
    if student.hidden != teacher.hidden:
        raise WrongUsage(f"pkd compares [CLS] vectors without a map and needs equal widths: student {student.hidden}, "
                         f"teacher {teacher.hidden}; write the student as {student.layers}x{teacher.hidden}")


# intersun/PKD-for-BERT-Model-Compression: BertAdam, warm-up 0.1, decay 0.01, batch 32, 4 epochs, 128 tokens.
RECIPES = {"paper": Recipe(steps=100, warmup=10, epochs=4, batch_size=32, learning_rate=2e-5, max_length=128,
                           optimizer="bert-adam"),
           "laptop": Recipe(steps=100, warmup=10, epochs=3, batch_size=32, learning_rate=1e-4, max_length=128)}
# Their example: alpha 0.7, T 10, beta 500, where beta fits the code's mean over the B (k-1) H numbers. The sum over
# layers and width of the paper is larger by (k-1) H = 5 * 768, so the same objective has beta 500 / 3,840.
SETTINGS = {"alpha": 0.7, "temperature": 10.0, "beta": 500 / 3840, "official_beta": 500.0}
GRID = {"alpha": (0.2, 0.5, 0.7), "temperature": (5.0, 10.0, 20.0), "lr": (5e-5, 2e-5, 1e-5),
        "official_beta": (10.0, 100.0, 500.0, 1000.0)}


def _stages(layer_map):
    def stages(alpha, temperature, beta, official_beta):
        labels, soft, patience = hard_labels.classes, TERMS["soft_labels.classes"], TERMS["pkd.patience"]
        soft = soft.but(temperature=temperature)
        return (Stage("distil", reads=TASK, head="task", recipes=RECIPES, layer_map=layer_map,
                      terms=((1 - alpha, labels), (alpha, soft), (beta, patience)),
                      official=((1 - alpha, labels), (alpha, soft.under("pkd")),
                                (official_beta, patience.under("official")))),)
    return stages


_PAPER = "Sun et al. 2019, Patient Knowledge Distillation for BERT Model Compression"
skip = Method("pkd-skip", _PAPER, on_task=_stages(layer_maps.skip), settings=SETTINGS, check=equal_width,
              start="first-layers", grid=GRID)
last = Method("pkd-last", _PAPER, on_task=_stages(layer_maps.patient_last), settings=SETTINGS, check=equal_width,
              start="first-layers", grid=GRID)
