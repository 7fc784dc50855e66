"""Distilling task-specific knowledge from BERT into a BiLSTM (Tang et al. 2019): the logits of a fine-tuned teacher.

    L = alpha CE + (1 - alpha) |z^T - z^S|^2            alpha = 0: distillation alone
    L = ce_lambda CE + distill_lambda MSE(z^S, z^T)     castorini/d-bert, both lambdas 1

The student is `bilstm`; logits are all that it has, and every student of a teacher of sequences can learn so. Its data
are augmented (`data/tang.py`). alpha = 0 and the rate 1 are the paper's (unverified).
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods.stage import TASK, Method, Recipe, Stage


def sequence_teacher(student, teacher, **settings):
    """The teacher is fine-tuned on classes of sequences."""
    if teacher.head != "sequence":
        raise WrongUsage(f"tang needs a teacher fine-tuned on classes of sequences or pairs, whose logits are learned; "
                         f"this one has the head {teacher.head!r}")


# castorini/d-bert: Adadelta with rho 0.95, batches of 50, 30 epochs, clipping at 30,000, which is none. Some of its
# configurations have the rate 5e-4, by which Adadelta would hardly move.
PAPER = Recipe(steps=100, epochs=30, batch_size=50, learning_rate=1.0, decay=0.0, clip=0.0, optimizer="adadelta",
               schedule="constant")
RECIPES = {"paper": PAPER, "laptop": PAPER.but(epochs=10)}


def stages(alpha, ce_lambda, distill_lambda):
    """alpha is the share of the labels; the lambdas are the weights in published code."""
    labels, logits = hard_labels.classes, TERMS["soft_labels.logits_mse"]
    return (Stage("distil", reads=TASK, head="task", recipes=RECIPES,
                  terms=_weighed((alpha, labels), (1 - alpha, logits)),
                  official=_weighed((ce_lambda, labels), (distill_lambda, logits.under("official")))),)


def _weighed(*terms):
    """The terms that have a weight: without the labels' no label is needed."""
    return tuple((weight, term) for weight, term in terms if weight)


method = Method(
    "tang", "Tang et al. 2019, Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
    on_task=stages, settings={"alpha": 0.0, "ce_lambda": 1.0, "distill_lambda": 1.0}, check=sequence_teacher)
