"""`tinydistill matrix`: which student learns by which method from which teacher, and why another does not."""

import re

from tinydistill import architectures
from tinydistill.commands import common
from tinydistill.errors import WrongUsage
from tinydistill.methods import METHODS
from tinydistill.methods.start import why_not
from tinydistill.students.bodies import on_body

HELP = "show which teacher, method and student go together, and why others do not"
SMALL = {"bilstm": ("1x48",)}                       # where it is not 2x48x4 for students and 4x48x4 for teachers
CLASSES = ("no", "yes")


def arguments(parser):
    parser.add_argument("--method", metavar="M", help="only this method")


def run(args):
    if args.method and args.method not in METHODS:
        raise WrongUsage(f"need a method out of {', '.join(METHODS)}; got {args.method!r}")
    return [{"teacher": teacher, "method": name, "on": where, "student": student, "runs": not reason, "reason": reason,
             "start": start}
            for name, method in METHODS.items() if args.method in (None, name)
            for where, build in (("text", method.on_text), ("task", method.on_task)) if build
            for teacher in architectures.SIZED for student in architectures.SIZED
            for _, _, reason, start in [pair(method, where == "task", teacher, student)]]


def pair(method, task, teacher, student):
    """(the student's configuration, the teacher's, "", how the student begins) of a small pair that works; where none
    does, the student's, None and why the first does not."""
    tried = []
    reads_logits = any("logits" in stage.teacher_needs or stage.teacher_inside for stage in method.stages(task))
    for head in ("sequence", "token") if task else ("masked-lm",) if reads_logits else ("none",):
        for config in shapes(student):
            try:
                taught = shapes(teacher)[-1].but(head=head, labels=CLASSES if task else ())
                if config.takes_body:
                    config = on_body(config, taught)
                method.plan(config, taught, task=task)
            except WrongUsage as reason:
                tried.append((config, None, str(reason), ""))
                continue
            start = method.start_of(config)
            if not why_not(config, taught, start):
                return config, taught, "", start
            tried.append((config, taught, "", "random"))
    return next((one for one in tried if one[1]), tried[0])


def shapes(prefix):
    """The small configurations of an architecture; the last is a teacher's."""
    return [architectures.parse(f"{prefix}-{shape}".lstrip("-")) for shape in SMALL.get(prefix, ("2x48x4", "4x48x4"))]


VIEWS = (("a BERT teaches", lambda row: row["student"] if not row["teacher"] else None),
         ("a BERT learns", lambda row: row["teacher"] if not row["student"] else None),
         ("teacher and student are of one architecture",
          lambda row: row["student"] if row["student"] == row["teacher"] else None))


def text(result):
    """Three views of the pairs: who learns from a BERT, whom a BERT learns from, who learns from its like. Methods and
    architectures that are told the same share a row and a column."""
    notes, parts = {}, []
    for title, column in VIEWS:
        cells = {}                                  # {architecture: {method: cell}}
        for row in result:
            if column(row) is not None:
                cells.setdefault(column(row) or "bert", {})[f"{row['method']} on {row['on']}"] = _cell(row, notes)
        methods = list(next(iter(cells.values())))
        columns = _alike({name: tuple(of_methods.values()) for name, of_methods in cells.items()})
        rows = _alike({method: tuple(values[i] for values in columns) for i, method in enumerate(methods)})
        names = ["/".join(names) for names in columns.values()]
        table = [dict(zip(names, values)) | {"": ", ".join(together)} for values, together in rows.items()]
        parts.append(f"{title}\n{common.table(table, [*names, ''])}")
    reasons = "\n".join(f"{number:>3}  {reason}" for reason, number in notes.items())
    return "\n\n".join([*parts, f"random: runs with --start random; a number: does not run, because\n{reasons}",
                         "--json has every pair of teacher and student"])


def _alike(answers):
    """{answer: the names that have it} of {name: answer}."""
    together = {}
    for name, answer in answers.items():
        together.setdefault(answer, []).append(name)
    return together


def _cell(row, notes):
    """"runs", "random", or the number of the reason, which is told without the two models at hand."""
    if row["runs"]:
        return "random" if row["start"] == "random" != METHODS[row["method"]].start else "runs"
    reason = re.sub(r" \d+x\d+", "", row["reason"].removeprefix(f"{row['method']} "))
    reason = re.split(": student|: it has |[,;] got |; this one has", reason)[0]
    reason = re.sub("reads [a-z, ]+ of its", "reads more than the logits of its", reason)
    return str(notes.setdefault(reason, len(notes) + 1))
