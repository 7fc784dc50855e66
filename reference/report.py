"""What came of a run, in plain words and as a document for programs.

    PASS   every case passes
    FAIL   some do not: first the known mistake that gives the same numbers, then the worst cases
    OTHER  every case passes, but under another convention than the one asked for
    NONE   no case could be run
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from tinydistill_reference import evidence, store
from tinydistill_reference.diagnose import factor, follows, matches
from tinydistill_reference.equation import Convention
from tinydistill_reference.words import listed, many, percent, setting, tensor

SHOWN = 3                                           # failed cases, the worst first; the others are counted
LIKELY = 0.5                                        # the share from which a mistake is worth a name
WORDS = {"failed": "FAIL", "passed": "PASS", "nothing": "NONE", "other": "OTHER"}


@dataclass(frozen=True)
class Verdict:
    """A result and what is known of its failures. status: that of the result, or "other"; matches: known mistakes,
    best first, where there are failures."""

    result: object
    status: str
    matches: tuple = ()

    @property
    def best(self):
        """The known mistake that is worth a name, or None."""
        return self.matches[0] if self.matches and self.matches[0].share >= LIKELY else None

    @property
    def failed(self):
        """The failed cases: those that raised, then those with the largest error; what was said already comes last."""
        def worst(outcome):
            return max((c.error for c in outcome.comparisons.get(self.result.convention, ())), default=np.inf)
        ordered = sorted(self.result.of("failed"), key=lambda o: (not o.words, -worst(o)))
        first = {o.words or o.id: o.id for o in reversed(ordered)}.values()
        return [] if self.status == "other" else sorted(ordered, key=lambda o: o.id not in first)


def verdict(result):
    """The Verdict on a Result of the runner."""
    failed, equation, asked = result.of("failed"), result.equation, result.convention
    if not failed:
        return Verdict(result, result.status)
    if asked not in equation.conventions:
        equation = replace(equation, conventions={asked: Convention(result.settings)} | equation.conventions)
        result = replace(result, follows=follows(equation, result.outcomes, result.dtype, asked))
    if other := result.follows not in ("", asked):          # no other convention comes into question
        equation = replace(equation, conventions={asked: equation.conventions[asked]})
    known = matches(equation, result.outcomes, result.dtype, convention=asked)
    return Verdict(result, "other" if other and not any(o.words for o in failed) else "failed", tuple(known))


def lines(result):
    """The report on one equation."""
    return text(verdict(result))


def text(seen):
    """The same, of a Verdict."""
    result, failed = seen.result, seen.failed
    below = [*otherwise(seen), *_around(result), *(cause(seen) if failed else [])]
    for outcome in failed[:SHOWN]:
        below += block(result, outcome)
    if len(failed) > SHOWN:
        below.append(f"{many(len(failed) - SHOWN, 'more case fails', 'more cases fail')}: "
                     + listed(o.id for o in failed[SHOWN:]))
    return [heading(seen), *(f"  {line}" for line in below)]


def heading(seen):
    """The first line: which equation, and how it ended."""
    result, begin = seen.result, f"{WORDS[seen.status]} {seen.result.equation.name}"
    if seen.status == "other":
        return f"{begin}  {result.dtype}  {followed(result)}. If that is what you mean: --convention {result.follows}" \
            f"  ({vectors(result)})"
    passed, ran = result.of("passed", "acceptable"), result.of("passed", "acceptable", "failed", "announced")
    under = [] if result.convention == result.equation.named() else [f"convention {asked_for(result)}"]
    return "  ".join([begin, result.dtype, f"{len(passed)} of {many(len(ran), 'case')}", tested(result), *under,
                      f"({vectors(result)})"])


def followed(result):
    """Which convention, and what makes it another than the one asked for."""
    return f"follows convention {result.follows}, not {asked_for(result)}: {'; '.join(differences(result))}"


def otherwise(seen):
    """What it is where the other convention is not what was meant."""
    same = [m.trap for m in seen.matches if m.share == 1] if seen.status == "other" else []
    return [f"if not, this is known trap `{t.flag}`: {t.bug}; {t.effect}; {t.source}" for t in same[:1]]


def vectors(result):
    """Their version and the beginning of their hash."""
    return f"vectors {result.version} {hashes(result)['hash'][:6]}"


def differences(result):
    """The settings in which the convention that is followed differs from the one asked for, in words."""
    asked, followed = result.settings, result.equation.settings(result.follows)
    words = [setting(name, x) for name, x in followed.items() if name not in asked or asked[name] != x]
    return words + [f"{name} as printed, not {x}" for name, x in asked.items() if name not in followed]


def asked_for(result):
    """The convention, or the settings that somebody asked for."""
    settings = ", ".join(f"{name}={x}" for name, x in result.settings.items())
    return settings if result.convention == "asked" else result.convention


def tested(result):
    """Whether gradients were, in words."""
    if not result.equation.differentiable:
        return "values"
    came = [n for n in result.equation.differentiable if f"d{n}" not in result.untested]
    if not came or not any(name[1:] in came for o in result.outcomes for name in o.got):
        return "values only"
    return "values and gradients" + f" of {listed(came)}" * bool(result.untested)


def hashes(result):
    """{"version", "hash", "files": {name: sha256}}; hash: of the hashes of the files, in this order."""
    folder, name = store.FOLDER / result.version, result.equation.name
    files = {p.name: store.digest(p) for p in (folder / f"{name}.json", folder / f"{name}.safetensors") if p.exists()}
    return {"version": result.version, "hash": hashlib.sha256("".join(files.values()).encode()).hexdigest(),
            "files": files}


def _around(result):
    """A line for each thing that a reader of the heading has to know, too."""
    if result.bound:
        yield f"bound: {result.bound}"
    if result.untested:
        yield f"not tested: {listed(tensor(n, result.equation.outputs) for n in result.untested)}: no gradient came"
    if result.leaks:
        yield f"{listed(result.leaks)} got a gradient: detach it here, or hand it in without one (--strict fails)"
    for status, words in (("skipped", "not tested"), ("acceptable", "accepted"), ("announced", "announced")):
        reasons = {}
        for o in result.of(status):
            reasons.setdefault(o.words, []).append(o.id)
        yield from (f"{words}: {many(len(ids), 'case')} ({listed(ids)}): {reason}" for reason, ids in reasons.items())
    if asked := result.of("refused", "unrefused"):
        kept, missed = result.of("refused"), result.of("unrefused")
        vague = [f"{o.stored.case.comment}: refused {o.words}" for o in kept if o.words]
        missed = ["not refused: " + ", ".join(o.stored.case.comment for o in missed)] if missed else []
        yield "; ".join([f"refuses {len(kept)} of {many(len(asked), 'wrong input')}", *missed, *vague])


def cause(seen):
    """The known mistake, what it does and where it was seen; and the equation as printed."""
    result, equation, found = seen.result, seen.result.equation, []
    if result.follows not in ("", result.convention):
        found.append(f"what ran {followed(result)}")
    bad = [c.name for o in seen.failed for c in o.comparisons.get(result.convention, ()) if not c.passed]
    off = factors(result, dict.fromkeys(bad))
    found += [f"{listed(names)} {'is' if len(names) == 1 else 'are'} {words} times what is expected, in every case"
              for words, names in off.items() if not seen.best or seen.best.share < 1]
    if seen.best and (seen.best.share == 1 or sum(map(len, off.values())) < len(set(bad))):
        found += [named(seen)] + [f"{name}: {getattr(seen.best.trap, name)}" for name in ("bug", "effect", "source")]
    elif bad:
        near = [m for m in seen.matches[:1] if m.share]
        found.append("no known trap gives this output" + "".join(
            f"; the nearest, `{m.trap.flag}`, explains {percent(m.share)} of it" for m in near))
    return found + [f"equation: {equation.formula}  ({equation.paper}, {equation.equation})"]


def factors(result, names):
    """{factor in words: [tensors]}, of those of these tensors that are off by it wherever they are wrong."""
    found = {}
    for name in names:
        wrong = {o.id for o in result.of("failed") for c in o.comparisons.get(result.convention, ())
                 if c.name == name and not c.passed}
        its = factor(result, name)
        if its.names and wrong <= its.ratios.keys():
            found.setdefault(" or ".join(its.names), []).append(tensor(name, result.equation.outputs))
    return found


def named(seen):
    """Which known trap it is, or is most like."""
    best, share = seen.best, seen.best.share
    same = [m for m in seen.matches if share == 1 and m.share == 1] or [best]
    next_best = [m for m in seen.matches if m not in same][:1]
    flags = " and ".join(f"`{m.trap.flag}`" for m in same[:3])
    under = f" under convention {best.convention}" * (best.convention != seen.result.convention)
    beside = "".join(f" (next best match {percent(m.share)})" for m in next_best)
    return f"this output equals known trap {flags}{under}{beside}" if share == 1 else \
        f"this output is most like known trap {flags}{under}: {percent(share)} of what is wrong equals it{beside}"


def block(result, outcome):
    """One failed case in a few lines."""
    begin = f"{outcome.id} ({outcome.stored.case.comment}): "
    found = evidence.evidence(result, outcome)
    bad, good = [e for e in found if not e.passed], [e.name for e in found if e.passed]
    if outcome.words or not bad:
        return [begin + " ".join(outcome.words.split())]
    first = begin + f"{listed(e.name for e in bad)} {'fails' if len(bad) == 1 else 'fail'}"
    first += f"; {listed(good)} {'passes' if len(good) == 1 else 'pass'}" * bool(good)
    return [first, *(f"  {e.name}: {line}" for e in bad[:2] for line in evidence.lines(e))]


def document(results):
    """What --json prints: the text and the numbers, without arrays. What is not finite is "inf", "-inf" or "nan"."""
    seen = [verdict(r) for r in results]
    counts = {word.lower(): sum(WORDS[s.status] == word for s in seen) for word in WORDS.values()}
    return {"document": "tinydistill-verify-1", "counts": counts, "results": [_document(s) for s in seen]}


def _document(seen):
    result, equation = seen.result, seen.result.equation
    refusals = {status: [o.id for o in result.of(status)] for status in ("refused", "unrefused")}
    return {
        "equation": equation.name, "paper": equation.paper, "printed": equation.equation, "formula": equation.formula,
        "dtype": result.dtype, "status": seen.status, "convention": result.convention, "settings": result.settings,
        "follows": result.follows, "differences": differences(result) if seen.status == "other" else [],
        "bound": result.bound, "untested": list(result.untested), "leaks": list(result.leaks),
        "tested": tested(result), "vectors": hashes(result),
        "mistake": _mistake(seen.best) if seen.best else None,
        "mistakes": [{"flag": m.trap.flag, "share": m.share, "convention": m.convention} for m in seen.matches],
        **refusals, "cases": [_case(result, o) for o in result.outcomes], "text": text(seen)}


def _mistake(match):
    return {"flag": match.trap.flag, "share": match.share, "convention": match.convention, "bug": match.trap.bug,
            "effect": match.trap.effect, "source": match.trap.source}


def _case(result, outcome):
    case = outcome.stored.case
    return {"id": case.id, "comment": case.comment, "attrs": result.equation.attrs | case.attrs,
            "status": outcome.status, "words": outcome.words,
            "tensors": [_tensor(e) for e in evidence.evidence(result, outcome)]}


def _tensor(e):
    c = e.comparison
    found = {"name": e.name, "passed": e.passed, "error": plain(c.error), "allowed": plain(c.allowed),
             "largest": plain(c.largest), "bad": c.bad, "size": c.size, "reason": c.reason}
    if e.passed or c.reason:
        return found
    got, want = e.first
    return found | {"first_bad": list(c.index), "got": plain(got), "expected": plain(want), "ratio": e.ratio,
                    "ratio_names": list(e.names), "places": e.places}


def plain(x):
    """A number that JSON has: what is not finite as a word."""
    return float(x) if np.isfinite(x) else str(float(x))
