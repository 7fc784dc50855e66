"""Try an implementation on equations and dtypes; where nobody says which equation it is, find out."""

import re

from tinydistill_reference import diagnose, store
from tinydistill_reference.adapters import TargetError
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run


def tried(call, names, dtypes, convention, version=store.VERSION, strict=False):
    """[Result], of the equations named, or of those that it may be meant for."""
    known = equations()
    if names:
        return [run(known[n], call, d, _for(known[n], convention), version, strict=strict)
                for n in names for d in dtypes]
    ran = [r for e in known.values() if _fits(call, e)
           and (r := run(e, call, dtypes[0], _for(e, convention), version, strict=strict)).status != "nothing"
           and not all(re.match("raised", o.words) for o in r.outcomes if o.status == "failed" or o.got)]
    if not ran:
        return []
    best = max(_likeness(r) for r in ran)
    chosen = [r for r in ran if _likeness(r) == best]
    return chosen + [run(r.equation, call, d, _for(r.equation, convention), version, strict=strict)
                     for d in dtypes[1:] for r in chosen]


def _fits(call, equation):
    """Whether the parameters of a function fit; of a program one cannot know."""
    try:
        if hasattr(call, "bind"):
            call.bind(equation)
    except TargetError:
        return False
    return True


def _for(equation, convention):
    """A convention that the equation has not is "any" of its own."""
    return convention if isinstance(convention, dict) or convention in ("any", *equation.conventions) else "any"


def _likeness(result):
    """How much it looks like this equation: it passes; it follows another convention; it has a known mistake; none."""
    ran = [o for o in result.outcomes if o.comparisons]
    if result.status == "passed":
        return 3.0
    if result.follows:
        return 2.0
    share = sum(c.passed for o in ran for c in o.comparisons[next(iter(o.comparisons))]) \
        / max(1, sum(len(next(iter(o.comparisons.values()))) for o in ran))
    found = diagnose.matches(result.equation, result.outcomes, result.dtype)
    return max([share / 2] + [m.share for m in found[:1]])
