"""Adapters (Houlsby et al. 2019): a pre-trained BERT learns a task by small bottlenecks in its layers, the rest frozen.

The teacher is the pre-trained model, whose body the student begins with; it says nothing during training.
"""

from tinydistill.errors import WrongUsage
from tinydistill.losses import hard_labels
from tinydistill.methods.stage import TASK, Method, Recipe, Stage
from tinydistill.students import houlsby
from tinydistill.students.bodies import require_body

# google-research/adapter-bert README: its example has a batch of 32, a rate of 3e-4 and 5 epochs; run_classifier.py has
# a warm-up of a tenth, optimization.py a decay of 0.01 (not of biases and layer norms) and a joint norm of at most 1.
RECIPES = {
    "paper": Recipe(steps=100, epochs=5, batch_size=32, learning_rate=3e-4, warmup=10, max_length=128,
                    optimizer="adam-weight-decay"),
    "laptop": Recipe(steps=100, epochs=3, batch_size=32, learning_rate=1e-3, warmup=10, max_length=128,
                     optimizer="adam-weight-decay")}


def check(student, teacher, **settings):
    """The student is the teacher with adapters."""
    if student.model_type != "adapterbert":
        raise WrongUsage(f"adapters are trained inside a BERT: need a student such as adapterbert, got {student}")
    require_body(student, teacher)


def is_trained(name, config):
    """Adapters, layer norms and the head are."""
    return houlsby.is_trained(name)


def stages():
    """The labels alone."""
    return (Stage("adapt", ((1.0, hard_labels.classes),), RECIPES, reads=TASK, head="task", trains=is_trained),)


method = Method("adapters", "Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP",
                on_task=stages, check=check, start="first-layers",
                notes="adds parameters, and trains few: what each task has for itself is small, the model is not")
