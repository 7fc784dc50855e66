"""Knowledge distillation (Hinton et al. 2015): the teacher's softened classes, mixed with the labels.

    L = alpha CE + (1 - alpha) T^2 KL
"""

from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import bert
from tinydistill.methods.stage import TASK, Method, Stage


def stages(alpha, temperature):
    """alpha is the share of the labels, temperature T."""
    return (Stage("distil", reads=TASK, head="task", recipes=bert.FINETUNE, terms=(
        (alpha, hard_labels.classes),
        (1 - alpha, TERMS["soft_labels.classes"].but(temperature=temperature)))),)


# alpha and T are not given for Transformers: BERT-PKD searched alpha (of the soft labels) 0.2, 0.5, 0.7 and T 5, 10, 20.
method = Method(
    "kd", "Hinton et al. 2015, Distilling the Knowledge in a Neural Network",
    on_task=stages, settings={"alpha": 0.5, "temperature": 5.0},
    grid={"alpha": (0.3, 0.5, 0.8), "temperature": (5.0, 10.0, 20.0), "lr": (5e-5, 2e-5, 1e-5)})
