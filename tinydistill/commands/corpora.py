"""`tinydistill corpora`: where text comes from."""

from tinydistill.commands import common
from tinydistill.data.corpora import CORPORA

HELP = "list the corpora"


def arguments(parser):
    pass


def run(args):
    return [dict(row) for row in CORPORA]


def text(result):
    return common.table(result, ("name", "what", "source"))
