"""What models are fine-tuned and measured on: examples, labels, metrics. Heads are the models' own."""

from tinydistill.errors import WrongUsage
from tinydistill.tasks import glue, stdlib_modules, stdlib_replaced, tagging

TASKS = {task.name: task for task in (stdlib_replaced.TASK, stdlib_modules.TASK, *glue.TASKS, tagging.TASK)}


def get(name):
    """The task called `name`."""
    if name not in TASKS:
        raise WrongUsage(f"need a task out of {', '.join(TASKS)}; got {name!r}")
    return TASKS[name]
