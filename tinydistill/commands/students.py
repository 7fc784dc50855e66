"""`tinydistill students`: the published sizes."""

from tinydistill.commands import common
from tinydistill.students.bert import parameter_count
from tinydistill.students.configs import PUBLISHED, parse

HELP = "list the published sizes with parameter counts; any LxH or LxHxA works too"


def arguments(parser):
    pass


def run(args):
    return [{"student": name, "layers": c.layers, "hidden": c.hidden, "heads": c.heads, "feed_forward": c.feed_forward,
             "vocabulary": c.vocabulary, "parameters": parameter_count(c)["total"], "paper": PUBLISHED[name][-1]}
            for name in PUBLISHED for c in [parse(name)]]


def text(result):
    return common.table(result, ("student", "layers", "hidden", "heads", "feed_forward", "parameters", "paper"))
