"""Pre-trained distillation (Turc et al. 2019): pre-train the compact model, distil on unlabelled text, fine-tune.

Each stage can be left out (`--skip`). The distillation reads the task's examples without their labels, T = 1.
"""

from dataclasses import replace

from tinydistill.losses import TERMS
from tinydistill.methods import bert
from tinydistill.methods.stage import TASK, Method, Stage

# google-research/bert README: 4 epochs, batches of 8 to 128, rates 3e-4, 1e-4, 5e-5, 3e-5.
RECIPES = bert.FINETUNE | {"paper": bert.FINETUNE["paper"].but(epochs=4, learning_rate=5e-5)}


def stages(temperature):
    """Pre-training, distillation at temperature T, fine-tuning."""
    soft = TERMS["soft_labels.classes"].but(temperature=temperature)
    return (bert.pretrain,
            Stage("distil", ((1.0, soft),), RECIPES, reads=TASK, head="task"),
            replace(bert.finetune, recipes=RECIPES))


method = Method("turc", "Turc et al. 2019, Well-Read Students Learn Better", on_task=stages,
                settings={"temperature": 1.0},
                grid={"lr": (3e-4, 1e-4, 5e-5, 3e-5), "batch_size": (8, 16, 32, 64, 128)})
