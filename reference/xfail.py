"""Failures that are known and announced: a file of lines `equation/case  reason`.

    # until the next release
    soft_labels.classes/05-T-3     the factor T^2 is left out on purpose
    minilm.*/08-one                a mean over no rows

An announced failure does not fail the run. A line that no failure bears out any more does: what it names "unexpectedly
passes". Of the cases that a pattern (*, ?, [...]) names, at least one has to fail in each equation.
"""

import difflib
import fnmatch
from dataclasses import dataclass, replace
from pathlib import Path

from tinydistill_reference import store


@dataclass(frozen=True)
class Announced:
    """A line of the file. where: file and number of the line."""

    pattern: str
    reason: str
    where: str

    def names(self, equation, case):
        return fnmatch.fnmatchcase(f"{equation}/{case}", self.pattern)


def apply(results, path):
    """The results, with announced failures set apart. Raises: ValueError for a line that names no case there is."""
    lines = read(path)
    version = results[0].version if results else store.VERSION
    ids = {name: [s.case.id for s in store.load(name, version)] for name in store.names(version)}
    ids |= {r.equation.name: [o.id for o in r.outcomes] for r in results}
    for line in lines:
        if not any(line.names(name, case) for name, cases in ids.items() for case in cases):
            every = [f"{name}/{case}" for name, cases in ids.items() for case in cases]
            near = difflib.get_close_matches(line.pattern, every, 1)
            raise ValueError(f"{line.where}: need a case that there is, got {line.pattern}"
                             + "".join(f" (is {n} meant?)" for n in near))
    return [_announced(result, lines) for result in results]


def read(path):
    """[Announced] of a file."""
    found = []
    for number, text in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        pattern, *reason = text.split(maxsplit=1) or "#"
        if pattern.startswith("#"):
            continue
        if "/" not in pattern or not reason:
            raise ValueError(f"{path}, line {number}: need `equation/case  reason`, got {text.strip()!r}")
        found.append(Announced(pattern, reason[0].strip(), f"{path}, line {number}"))
    return found


def _announced(result, lines):
    """A result in which failures that a line names are announced, and lines that nothing bears out fail."""
    outcomes = {o.id: o for o in result.outcomes}
    for line in lines:
        its = [o for o in result.outcomes if line.names(result.equation.name, o.id) and o.status != "skipped"]
        wrong = [o for o in its if o.status in ("failed", "unrefused")]
        outcomes |= {o.id: replace(o, status="announced", words=line.reason) for o in wrong}
        if not wrong:
            words = f"unexpectedly passes: {line.reason} ({line.where})"
            outcomes |= {o.id: replace(o, status="failed", words=words) for o in its}
    return replace(result, outcomes=tuple(outcomes.values()))
