"""torchdistill: its losses read what modules put out from a dictionary, {path: {"output": tensor}}."""

import torch
from torchdistill.losses.mid_level import ATLoss, KDLoss

from tinydistill_reference.examples.published import Published

PLACE = ("out", "output", "out", "output")


def given(student, teacher):
    return {"out": {"output": student}}, {"out": {"output": teacher.detach()}}


def kd(**settings):
    return lambda student_logits, teacher_logits, temperature: KDLoss(*PLACE, temperature, **settings)(
        *given(student_logits, teacher_logits))


def kd_with_labels(student_logits, teacher_logits, temperature):
    """No row has a label, so that the sum of the hard losses is 0."""
    nothing = torch.full((len(student_logits),), -100)
    return KDLoss(*PLACE, temperature, alpha=0.5, beta=1.0, reduction="sum")(
        *given(student_logits, teacher_logits), nothing)


def attention_transfer(mode):
    """Feature maps (B, D, T, 1): hidden states as a picture of T x 1 pixels."""
    pair = {name: {"path": "out", "io": "output"} for name in ("student", "teacher")}
    return lambda student_hidden, teacher_hidden, mask: ATLoss({"pair": pair}, mode)(
        *given(student_hidden.mT[..., None], teacher_hidden.mT[..., None]))


PUBLISHED = (
    Published("KDLoss", "alpha=0", "soft_labels.classes", kd(alpha=0.0), "torchdistill",
              "T^2 is left out, against the formula in its docstring: repro_torchdistill_kd_loss_t_squared.py"),
    Published("KDLoss", "alpha and beta left at their None", "soft_labels.classes", kd(),
              "FAIL raised TypeError: unsupported operand type(s) for -: 'int' and 'NoneType' in 9 cases",
              "alpha=None is the default, and 1 - None is computed: repro_torchdistill_kd_loss_defaults.py"),
    Published("KDLoss", "alpha=None, beta=1", "soft_labels.classes", kd(beta=1.0), "torchdistill",
              "as alpha=0"),
    Published("KDLoss", "alpha=0.5, beta=1, sum, no row labelled", "soft_labels.classes", kd_with_labels,
              "divisor=none", "with a hard loss T^2 is there", {"divisor": "none"}),
    Published("ATLoss", "mode paper", "attention_transfer.maps", attention_transfer("paper"),
              only=lambda case: case.inputs["mask"].all()),
    Published("ATLoss", "mode code", "attention_transfer.maps_official", attention_transfer("code"), "official",
              "its documentation says where paper and code differ"),
)
