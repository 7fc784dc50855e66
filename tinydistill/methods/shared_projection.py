"""Shared projections (Zhao et al. 2019): a student of few word pieces and little width, beside its teacher.

    1. mixed    the teacher learns to read the student's word pieces: masked language modelling of mixed text
    2. dual     both learn at once:  L_MLM(student) + L_MLM(teacher) + epsilon (L_d, L_u, or both)

Mixed text has each word cut by the student's vocabulary with probability p, else by the teacher's; the student reads
the same text in its own. Logits of two vocabularies could not be compared, so that weights are: the rows that the
teacher has learned for the student's pieces beside the student's own, and layer beside layer. U and V are learned, and
kept in none of the two: the student that comes out is a plain BERT with its vocabulary.

Source: Zhao et al. 2019, abstract: teacher and student are trained simultaneously, weights are compared through shared
projections. US patents 11,797,862, claims 7, 8, 11 and 12 (equal depth, two softmax layers, words chosen with a
probability, which may rise), and 12,260,340, claims 1 to 3 (the teacher's parameters projected beside the student's, a
mean square there, and a second such loss). A first stage for the teacher alone, p = 0.5 and 4,928 pieces are from
memory of the paper, epsilon and the recipes, which are BERT's, are ours: unverified. No code was published.
"""

from functools import partial

from tinydistill.compress.shared_projection import Dual, require_vocabulary
from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import bert
from tinydistill.methods.stage import MASKED, Method, Stage

DIRECTIONS = {"down": ("down",), "up": ("up",), "both": ("down", "up")}


def check(student, teacher, **settings):
    """Weights are compared role by role, through maps that know the two widths and nothing else."""
    for who, config, known in (("student", student, ("bert",)), ("teacher", teacher, ("bert", "mixed-bert"))):
        if config.model_type not in known:
            raise WrongUsage(f"shared-projection compares the weights of two BERTs, role by role, and needs a BERT as "
                             f"its {who}; got {config}")
    if student.layers != teacher.layers:
        raise WrongUsage(f"shared-projection compares the weights of each layer and needs as many of them: student "
                         f"{student.layers}, teacher {teacher.layers}; write the student as "
                         f"{teacher.layers}x{student.hidden}")
    inner = teacher.feed_forward // teacher.hidden
    if student.feed_forward != teacher.feed_forward and (
            teacher.feed_forward % teacher.hidden or student.feed_forward != inner * student.hidden):
        raise WrongUsage(f"shared-projection projects a feed-forward width in blocks of the model's and needs as many "
                         f"of them: student {student.feed_forward} of {student.hidden}, teacher {teacher.feed_forward} of "
                         f"{teacher.hidden}")
    for name in ("positions", "token_types"):
        if getattr(student, name) != getattr(teacher, name):
            raise WrongUsage(f"shared-projection compares embeddings row by row and needs equal {name}: student "
                             f"{getattr(student, name)}, teacher {getattr(teacher, name)}")
    require_vocabulary(student, teacher)


def probability(step, steps, p, ramp):
    """Of a word to be cut by the student's vocabulary: up to p over a share `ramp` of the steps, then p.

    >>> probability(0, 100, 0.5, 0.0), probability(10, 100, 0.5, 0.4), probability(40, 100, 0.5, 0.4)
    (0.5, 0.125, 0.5)
    """
    return p if step >= ramp * steps else p * step / (ramp * steps)


def of_teacher(name, config):
    """Whether a parameter of the two is the teacher's."""
    return name.startswith("teacher.")


def joined(student, teacher, alone=False):
    """Both as one model; a teacher that has learned in an earlier stage comes with the student."""
    if isinstance(student, Dual):
        student, teacher = student.student, student.teacher
    return Dual(student, teacher, alone)


def parted(model):
    """The student by itself."""
    return model.student


def stages(vocabulary, p, ramp, epsilon, direction):
    """vocabulary: the student's, learned from the corpus; 0 for the teacher's own. p, ramp: see `probability`; it rises
    in the first stage.

    epsilon, direction: weight of the comparison of weights, and which of them is projected: "down", "up" or "both".
    """
    if direction not in DIRECTIONS:
        raise WrongUsage(f"need a direction of shared-projection out of {', '.join(DIRECTIONS)}; got {direction!r}")
    if not 0 <= p <= 1 or not 0 <= ramp <= 1 or epsilon <= 0 or vocabulary < 0:
        raise WrongUsage(f"need p and ramp from 0 to 1, an epsilon above 0 and a vocabulary of at least 0; got p {p}, "
                         f"ramp {ramp}, epsilon {epsilon}, vocabulary {vocabulary}")
    mixed = (1.0, TERMS["shared_projection.mixed_masked_lm"])
    weights = tuple((epsilon, TERMS[f"shared_projection.{name}"]) for name in DIRECTIONS[direction])
    both = dict(reads=MASKED, head="masked-lm", teacher_inside=True, recipes=bert.PRETRAIN)
    return (Stage("mixed", (mixed,), before=partial(joined, alone=True), trains=of_teacher, **both),
            Stage("dual", ((1.0, hard_labels.masked_lm), mixed, *weights), before=joined, after=parted, **both))


method = Method(
    "shared-projection",
    "Zhao et al. 2019, Extreme Language Model Compression with Optimal Subwords and Shared Projections",
    on_text=stages, check=check,
    settings={"vocabulary": 4928, "p": 0.5, "ramp": 0.0, "epsilon": 1e-4, "direction": "down"},
    notes="from abstract and patents; what else there is, is unverified: methods/shared_projection.py")
