"""Knowledge distillation from internal representations (Aguilar et al. 2020): attention KL and [CLS] cosine by layer.

Three ways through the layers: all at once with the soft labels; progressive (PID), one layer a stage from the bottom;
stacked (SID), one layer more each stage. The last two end with the logits. No code was published; the layer map (the
last of each block of the teacher's) and the schedules are those of the paper's summary, unverified in detail.
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS
from tinydistill.methods import bert, layer_maps
from tinydistill.methods.minilm import equal_heads
from tinydistill.methods.stage import TASK, Method, Stage


def check(student, teacher, **settings):
    """Heads and widths are compared as they are."""
    equal_heads(student, teacher)
    if student.hidden != teacher.hidden:
        raise WrongUsage(f"internal compares [CLS] vectors without a map and needs equal widths: student {student.hidden}, "
                         f"teacher {teacher.hidden}; write the student as {student.layers}x{teacher.hidden}")
    layer_maps.uniform(student.layers, teacher.layers)


_LAYERS = ((1.0, TERMS["internal.attention"]), (1.0, TERMS["internal.cosine"]))


def _logits(temperature):
    return ((1.0, TERMS["soft_labels.classes"].but(temperature=temperature)),)


def all_at_once(temperature):
    """Every layer and the soft labels from the first step."""
    return (Stage("distil", _LAYERS + _logits(temperature), bert.FINETUNE, layer_map=layer_maps.uniform, reads=TASK,
                  head="task"),)


def _by_layer(each_layer):
    def stages(temperature):
        return (Stage("layer", _LAYERS, bert.FINETUNE, layer_map=layer_maps.uniform, reads=TASK, head="task",
                      each_layer=each_layer),
                Stage("logits", _logits(temperature), bert.FINETUNE, reads=TASK, head="task"))
    return stages


_PAPER = "Aguilar et al. 2020, Knowledge Distillation from Internal Representations"
_SAME = dict(settings={"temperature": 1.0}, check=check, equal_heads=True, start="first-layers")
together = Method("internal", _PAPER, on_task=all_at_once, **_SAME)
progressive = Method("internal-pid", _PAPER, on_task=_by_layer("alone"), **_SAME)
stacked = Method("internal-sid", _PAPER, on_task=_by_layer("up to"), **_SAME)
