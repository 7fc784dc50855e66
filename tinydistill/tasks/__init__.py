"""What models are fine-tuned and measured on: examples, labels, metrics. Heads are the models' own."""

from tinydistill.errors import WrongUsage
from tinydistill.tasks import single_sentence, stdlib_modules, stdlib_replaced

TASKS = {task.name: task for task in (stdlib_replaced.TASK, stdlib_modules.TASK, single_sentence.SST_2)}


def get(name):
    """The task called `name`."""
    if name not in TASKS:
        raise WrongUsage(f"need a task out of {', '.join(TASKS)}; got {name!r}")
    return TASKS[name]
