"""`tinydistill losses`: every term, its equation and the file it stands in."""

import inspect

from tinydistill import losses
from tinydistill.commands import common

HELP = "list the loss terms with paper, equation and file"


def arguments(parser):
    pass


def run(args):
    return [{"term": term.name, "paper": term.paper, "equation": term.equation,
             "file": inspect.getmodule(term.loss).__name__.replace(".", "/") + ".py",
             "student_needs": sorted(map(_need, term.student_needs.wanted)),
             "teacher_needs": sorted(map(_need, term.teacher_needs.wanted))} for term in losses.TERMS.values()]


def _need(pair):
    name, layer = pair
    return name if layer is None else f"{name}[{layer}]"


def text(result):
    return common.table(result, ("term", "paper", "equation", "file"))
