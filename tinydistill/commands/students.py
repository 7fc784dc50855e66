"""`tinydistill students`: the published sizes of every architecture."""

from tinydistill import architectures
from tinydistill.commands import common

HELP = "list the published sizes with parameter counts; any LxH, and PREFIX-LxH of the others, works too"


def arguments(parser):
    pass


def run(args):
    return [{"student": name, "architecture": architectures.of(config).title, "layers": config.layers,
             "hidden": config.hidden, "heads": config.heads, "feed_forward": config.feed_forward,
             "vocabulary": config.vocabulary, "parameters": architectures.parameter_count(config)["total"],
             "counted": counted, "counted_as_published": architectures.paper_count(name), "paper": paper}
            for name, (config, paper, counted) in architectures.SIZES.items()]


def text(result):
    return common.table(result, ("student", "architecture", "layers", "hidden", "heads", "feed_forward", "parameters",
                                 "counted_as_published", "counted", "paper"))
