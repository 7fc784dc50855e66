"""Small and practical BERT models for sequence labelling (Tsai et al. 2019): soft labels of each word's first piece.

Pre-train the small model on masked text, then learn the fine-tuned teacher's distribution of every word (`--skip
pretrain` where the student was pre-trained before). Stages and recipes are unverified: no code was published.
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS
from tinydistill.methods import bert
from tinydistill.methods.stage import TASK, Method, Stage


def stages():
    """Masked language modelling, then the soft labels."""
    return (bert.pretrain,
            Stage("distil", ((1.0, TERMS["sequence_labels"]),), bert.FINETUNE, reads=TASK, head="task"))


def check(student, teacher, **settings):
    """The teacher is fine-tuned on tagging."""
    if teacher.head != "token":
        raise WrongUsage(f"sequence-labels needs a teacher fine-tuned on tagging, whose head reads tokens; "
                         f"this one has the head {teacher.head!r}")


method = Method("sequence-labels", "Tsai et al. 2019, Small and Practical BERT Models for Sequence Labeling",
                on_task=stages, check=check)
