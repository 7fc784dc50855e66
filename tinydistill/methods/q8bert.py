"""Q8BERT (Zafrir et al. 2019): fine-tuning of a BERT that computes in 8 bits. The teacher is only what it begins as.

    L = CE(labels), every pass through quantised weights and activations, its gradient straight through the rounding

A student of the teacher's shape and head is the teacher, quantised; one of its first layers, or with a fresh head where
the teacher has none of the task, takes the rest. What comes out is stored in int8. The hyper-parameters of fine-tuning
are BERT's: published code leaves them to the command line, and the paper's own are unverified.
"""

from dataclasses import replace
from functools import partial

from tinydistill.compress import q8bert
from tinydistill.errors import WrongUsage
from tinydistill.methods import bert
from tinydistill.methods.stage import Method
from tinydistill.students.bert import Bert


def begun(student, teacher, quantised, **settings):
    """The student, quantised, with all of the teacher's weights where the two have the same."""
    if type(teacher) is Bert and same(student, teacher):
        student.load(teacher.arrays())
    return quantised(student, **settings)


def same(student, teacher):
    """Whether two models have the same parameters by name and shape, and the same classes."""
    shapes = [{name: p.shape for name, p in model.named_parameters().items()} for model in (student, teacher)]
    return shapes[0] == shapes[1] and student.config.labels == teacher.config.labels


def require_bert(name, student, teacher):
    """Raises: WrongUsage where the student, or the model that it begins as, is another architecture."""
    if (student.model_type, teacher.model_type) != ("bert", "bert"):
        raise WrongUsage(f"{name} quantises a BERT, which is its teacher; "
                         f"got the student {student}, the teacher {teacher}")


def check(student, teacher, **settings):
    """A BERT, and a quantisation that there is."""
    require_bert("q8bert", student, teacher)
    q8bert.Q8BertConfig(student.layers, student.hidden, student.heads, student.feed_forward, **settings)


def stages(**settings):
    """BERT's fine-tuning."""
    return (replace(bert.finetune, before=partial(begun, quantised=q8bert.quantised, **settings)),)


method = Method("q8bert", "Zafrir et al. 2019, Q8BERT: Quantized 8Bit BERT", on_task=stages, check=check,
                settings={"weight_bits": 8, "activation_bits": 8, "mode": "ema", "ema_decay": 0.9999},
                start="first-layers", grid=bert.GRIDS["bert"])
