"""Pruning heads (Michel et al. 2019) with fine-tuning between: from a fine-tuned model, a share of its heads at a time.

Heads are ranked once, on the fine-tuned model and the task's own examples; then the least important go in steps of a
tenth, and after each step what is left is fine-tuned. Without that (`--epochs 0`) it is the paper's experiment, which
prunes a finished model (unverified). Which heads go depends on values, so it is a command of its own, `tinydistill
prune`, and no Method.
"""

from dataclasses import replace

from tinydistill.losses import hard_labels
from tinydistill.methods import bert

# Of BERT's own fine-tuning, one epoch after each step: neither is published.
RECIPES = {name: recipe.but(epochs=1) for name, recipe in bert.FINETUNE.items()}
finetune = replace(bert.finetune, name="prune", recipes=RECIPES)
needs = hard_labels.classes.student_needs


def loss(features, batch):
    """What a head is important for: the cross-entropies of the batch's examples, added up."""
    return hard_labels.classes(features, None, batch, 1)


def stages(count):
    """The fine-tuning after each of so many steps, by its name."""
    return [replace(finetune, name=f"prune {i + 1}") for i in range(count)]
