"""`tinydistill losses`: every term, its equation, the file it stands in, and what each project computes by that name."""

import inspect
from dataclasses import asdict

from tinydistill import losses
from tinydistill.commands import common

HELP = "list the loss terms with paper, equation, file and conventions"


def arguments(parser):
    parser.add_argument("--conventions", action="store_true", help="a line a convention: what it counts and divides by")


def run(args):
    return [{"term": term.name, "paper": term.paper, "equation": term.equation,
             "file": inspect.getmodule(term.loss).__name__.replace(".", "/") + ".py",
             "student_needs": sorted(map(_need, term.student_needs.wanted)),
             "teacher_needs": sorted(map(_need, term.teacher_needs.wanted)),
             "conventions": {name: asdict(convention) for name, convention in term.conventions.items()},
             "notes": term.notes} | ({"shown": "conventions"} if args.conventions else {}) for term in losses.TERMS.values()]


def _need(pair):
    name, layer = pair
    return name if layer is None else f"{name}[{layer}]"


def text(result):
    if "shown" not in result[0]:
        return common.table([row | {"conventions": list(row["conventions"])} for row in result],
                            ("term", "paper", "equation", "conventions", "file"))
    rows = [{"term": row["term"], "convention": name, **each,
             "else": ["without T^2"] * (not each["temperature_squared"]) + ["with the teacher's entropy"]
             * (each["constant"] == "cross-entropy")} for row in result for name, each in row["conventions"].items()]
    return common.table(rows, ("term", "convention", "rows", "keys", "divisor", "else", "source"))
