"""Attention transfer (Zagoruyko and Komodakis 2017): where a layer is active, beside soft and hard labels.

    L = (1 - alpha) CE + alpha T^2 KL + beta/2 sum_layers |Q_S/|Q_S| - Q_T/|Q_T||        (code: beta mean of squares)

Written for feature maps of images; here a layer's map runs over the tokens. The weights are the caller's: none are
published for Transformers.
"""

from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import bert, layer_maps
from tinydistill.methods.stage import TASK, Method, Stage


def stages(alpha, temperature, beta):
    """Labels, soft labels, and the maps of each block of the teacher: alpha, temperature, beta as above."""
    labels, soft = hard_labels.classes, TERMS["soft_labels.classes"].but(temperature=temperature)
    return (Stage("distil", reads=TASK, head="task", recipes=bert.FINETUNE, layer_map=layer_maps.uniform,
                  terms=((1 - alpha, labels), (alpha, soft), (beta / 2, TERMS["attention_transfer.maps"])),
                  official=((1 - alpha, labels), (alpha, soft), (beta, TERMS["attention_transfer.maps_official"]))),)


def check(student, teacher, **settings):
    """The teacher's depth is a multiple of the student's."""
    layer_maps.uniform(student.layers, teacher.layers)


method = Method("attention-transfer", "Zagoruyko and Komodakis 2017, Paying More Attention to Attention", on_task=stages,
                settings={"alpha": 0.5, "temperature": 4.0, "beta": 1.0}, check=check)
