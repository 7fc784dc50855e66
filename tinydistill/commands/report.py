"""`tinydistill report RUN`: a run as one HTML page."""

from pathlib import Path

from tinydistill import report
from tinydistill.commands import common

HELP = "write RUN/report.html: where a run stands, its curves, what was run"


def arguments(parser):
    parser.add_argument("directory", metavar="RUN", help="run directory of pretrain, distill or finetune")


def run(args):
    directory = common.require_directory(args.directory, "a run directory")
    path = directory / "report.html"
    report.write(path, report.run_page(directory))
    return {"report": str(path)}


def text(result):
    return f"the report is {result['report']}: open it in a browser"
