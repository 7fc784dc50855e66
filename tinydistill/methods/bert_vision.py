"""BERTVision (Jiang et al. 2022): fine-tune a BERT for a part of an epoch, keep its hidden states, train a head.

    tinydistill finetune --task T --model BERT --max-steps N --output TEACHER            a fraction of an epoch, or one
    tinydistill distill --method bert-vision --teacher TEACHER --student bertvision --task T --cache-teacher DIR ...

The teacher's body is the student's, and frozen, so each row goes through it once: with a cache, training reads files.
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import hard_labels, spans
from tinydistill.methods import bert
from tinydistill.methods.stage import TASK, Method, Recipe, Stage
from tinydistill.students.bodies import require_body

# cbenge509/BERTVision: one epoch of AdamW without bias correction, decay 0.01, warm-up a tenth, batches of 16 to 64,
# nothing clipped; rates were searched from 1e-6 to 1e-3. Its decay comes after the step, on the updated weights.
RECIPES = {
    "paper": Recipe(steps=100, epochs=1, batch_size=16, learning_rate=1e-3, warmup=10, clip=0.0, max_length=128,
                    optimizer="adam-weight-decay"),
    "laptop": Recipe(steps=100, epochs=1, batch_size=16, learning_rate=1e-3, warmup=10, clip=0.0, max_length=128,
                     optimizer="adam-weight-decay")}
LABELS = {"sequence": hard_labels.classes, "span": spans.ends}


def check(student, teacher, **settings):
    """The student is a head on the teacher's body."""
    if student.model_type != "bertvision":
        raise WrongUsage(f"bert-vision trains a head on a BERT's hidden states: need a student such as bertvision, "
                         f"got {student}")
    require_body(student, teacher)


def is_trained(name, config):
    """The head is, and nothing else."""
    return name.startswith("head.")


def stages(head):
    """The labels alone. head: of a "sequence" or of a "span"."""
    if head not in LABELS:
        raise WrongUsage(f"need a head of bert-vision out of {', '.join(LABELS)}; got {head!r}")
    return (Stage("pool", ((1.0, LABELS[head]),), RECIPES, reads=TASK, head="task", trains=is_trained,
                  before=lambda student, teacher: student.reading(teacher), after=lambda model: model.reading(None)),)


method = Method(
    "bert-vision", "Jiang et al. 2022, BERTVision: A Parameter-Efficient Approach for Question Answering",
    on_task=stages, settings={"head": "sequence"}, check=check, start="first-layers",
    grid={"lr": bert.GRIDS["bert-vision"]["lr"]},
    notes="the student is small in what is trained: to be used it needs the whole body of its teacher")
