"""`tinydistill tasks`: what a model can be fine-tuned and measured on."""

from tinydistill import tasks
from tinydistill.commands import common

HELP = "list the tasks with their source, classes and metric"


def arguments(parser):
    pass


def run(args):
    return [{"task": task.name, "what": task.what, "kind": task.kind, "labels": list(task.labels),
             "metrics": list(task.metrics), "source": task.source} for task in tasks.TASKS.values()]


def text(result):
    return common.table(result, ("task", "kind", "metrics", "what", "source"))
