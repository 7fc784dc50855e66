"""FitNets (Romero et al. 2015): a hint from the teacher's middle layer, then labels and soft labels.

The regressor from the student's guided layer is learned in the first stage and dropped. In the second the weight of the
soft labels falls from 4 to 1 (lambda and tau are unverified; the published code leaves them to the caller).
"""

from tinydistill.losses import TERMS, hard_labels
from tinydistill.methods import bert, layer_maps
from tinydistill.methods.stage import TASK, Method, Ramp, Stage


def stages(temperature, first, last):
    """The hint, then labels with soft labels whose weight goes from `first` to `last`."""
    return (Stage("hint", reads=TASK, head="task", recipes=bert.FINETUNE, layer_map=layer_maps.middle,
                  terms=((1.0, TERMS["fitnets.hint"]),)),
            Stage("distil", reads=TASK, head="task", recipes=bert.FINETUNE,
                  terms=((1.0, hard_labels.classes),
                         (Ramp(first, last), TERMS["fitnets.softened"].but(temperature=temperature)))))


method = Method("fitnets", "Romero et al. 2015, FitNets: Hints for Thin Deep Nets", on_task=stages,
                settings={"temperature": 3.0, "first": 4.0, "last": 1.0})
