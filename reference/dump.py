"""`verify --dump FILE`: which loss, under which convention, gives the number that somebody saved?

    np.savez("step.npz", student_logits=..., teacher_logits=..., mask=..., temperature=2.0, loss=0.2231)
    tinydistill verify --dump step.npz

The tensors go by their names (saved.py), layers by a leading axis or a number behind the name. Several losses may be
there, and gradients (dstudent_logits), taken of `upstream` times the loss.

Exit codes: 0 a convention gives every saved value, and its gradients are those that were saved; 1 not so; 2 the file
cannot be used; 3 no equation can be computed of what it holds.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinydistill_reference import search
from tinydistill_reference.bench import SAMPLE, Bench, precision
from tinydistill_reference.candidates import CONVENTION, fill, with_scores
from tinydistill_reference.equation import equations, is_floating
from tinydistill_reference.saved import Unusable, read, understood
from tinydistill_reference.words import listed, many, number, tensor, times

SHOWN = 6                                           # matches of a value
FOUND, NOT_FOUND, UNUSABLE, NOTHING = range(4)


@dataclass
class Answer:
    """What one saved value may be: matches, or else mistakes and factors. gradients: [GradientCheck] of the first."""

    name: str
    got: float
    dtype: str
    matches: list = field(default_factory=list)
    mistakes: list = field(default_factory=list)
    factors: list = field(default_factory=list)
    gradients: list = field(default_factory=list)

    @property
    def passed(self):
        return bool(self.matches) and all(g.comparison.passed for g in self.gradients)


@dataclass
class Report:
    """All of it. problem: why there is nothing else; missing {equation: what it needs beside what is there}."""

    path: str
    exit_code: int
    problem: str = ""
    saved: object = None
    notes: list = field(default_factory=list)
    missing: dict = field(default_factory=dict)
    answers: list = field(default_factory=list)
    bench: object = None


def identify(path, seconds=120):
    """The Report on a file. seconds: how long to look at most."""
    try:
        known = {e.name: e for e in equations().values() if e.outputs == ("value",) and _is_loss(e)}
        names = dict.fromkeys(name for e in known.values() for name in (*e.shapes, "upstream"))
        saved = understood(read(path), names, {a for e in known.values() for a in e.attrs} | {"upstream"})
        values = {name: x for name, x in saved.values.items() if x.size == 1}
        if not values:
            raise Unusable("need the value that was computed, one number under the name value or loss; there "
                           + (f"is {_shapes(saved.values)}" if saved.values else "is none"))
    except Unusable as problem:
        return Report(str(path), UNUSABLE, f"{problem}")
    inputs, notes = with_scores(saved.inputs)
    filled = {name: fill(e, inputs) for name, e in known.items()}
    missing = {name: words for name, words in filled.items() if isinstance(words, str)}
    filled = {name: f for name, f in filled.items() if name not in missing}
    notes = list(dict.fromkeys(notes + [note for f in filled.values() for note in f.notes]))
    bench = Bench(filled, seconds)
    floats = [x for x in saved.inputs.values() if is_floating(x)]
    answers = [Answer(name, float(x.reshape(-1)[0]), precision(x, floats)) for name, x in values.items()]
    found = search.search(bench, saved.numbers, {a.name: (a.got, a.dtype) for a in answers if np.isfinite(a.got)})
    for answer in answers:
        answer.matches = found.get(answer.name, [])
        if answer.matches:
            _with_gradients(answer, bench, saved, {n: precision(g, floats) for n, g in saved.gradients.items()})
        elif np.isfinite(answer.got):
            answer.mistakes = search.mistakes(bench, saved.numbers, answer.got, answer.dtype)
            answer.factors = [] if answer.mistakes else search.factors(bench, saved.numbers, answer.got, answer.dtype)
    tried = bench.values or bench.left_out or filled and not any(np.isfinite(a.got) for a in answers)
    code = NOTHING if not tried else FOUND if all(a.passed for a in answers) else NOT_FOUND
    return Report(str(path), code, "", saved, notes, missing, answers, bench)


def _is_loss(equation):
    """Whether it is one of features, and not that of a whole model with its weights."""
    return all(name.isidentifier() for name in equation.shapes)


def _with_gradients(answer, bench, saved, dtypes):
    """Check the gradients of the first few matches, and put one first of which all are right."""
    for match in answer.matches[:SHOWN] if saved.gradients else ():
        checks = search.check_gradients(bench, match, saved.numbers.get("upstream", 1.0), saved.gradients, dtypes)
        right = bool(checks) and all(g.comparison.passed for g in checks)
        answer.gradients = checks if right or not answer.gradients else answer.gradients
        if right:
            answer.matches = [match, *(m for m in answer.matches if m is not match)]
            return


# ---------------------------------------------------------------- for people

def lines(report):
    """The report as text."""
    if report.problem:
        return [f"{report.path}: {report.problem}"]
    saved, bench = report.saved, report.bench
    given = [f"{meaning} {_shape(saved.inputs[meaning])}" + f" ({name})" * (name != meaning)
             for meaning, name in saved.names.items()]
    given += [f"{name} {number(x)}" for name, x in saved.numbers.items()]
    found = [f"{report.path}: {', '.join(given) or 'no input'}"]
    found += [f"  not read: {listed(saved.unread)}"] * bool(saved.unread) + [f"  {note}" for note in report.notes]
    if report.exit_code == NOTHING:
        return [*found, "no equation can be computed of these:", *_nearest(report)]
    for answer in report.answers:
        found += _of_answer(answer, saved, bench)
    return [*found, *_left_out(report)]


def _of_answer(answer, saved, bench):
    head = f"{answer.name} = {answer.got:.9g} ({answer.dtype})"
    if answer.matches:
        first, *others = answer.matches
        part, alike = first.total.parts[0], [m for m in others if _alike(m, first)]
        others = [m for m in others if m not in alike]
        told = [f"{head} is", f"  {first.total.words}: {first.value:.9g}, off by {times(first.units)}"]
        if len(first.total.parts) == 1:
            source = part.equation.conventions[_first_name(part)].source if first.total.rank == CONVENTION else ""
            told += [f"    {part.equation.paper}, {part.equation.equation}: {part.equation.formula}",
                     *([f"    {source}"] if source else [])]
        if changed := [n for n, x in part.attrs.items() if saved.numbers.get(n, x) != x]:
            told.append(f"    not at the saved {changed[0]}, {number(saved.numbers[changed[0]])}")
        told += [f"    here the same: {listed([m.total.parts[0].reading for m in alike])}"] * bool(alike)
        told += [f"    {line}" for g in answer.gradients for line in _of_gradient(g)]
        told += [f"  also {m.total.words}: {m.value:.9g}" for m in others[:SHOWN - 1]]
        return told + [f"  and {many(len(others) - SHOWN + 1, 'more reading')}"] * (len(others) >= SHOWN)
    told = [f"{head}: no convention gives this number"]
    for m in answer.mistakes[:SHOWN]:
        told += [f"  {m.total.words} with the mistake `{m.mistake.flag}` does: {m.value:.9g}, off by {times(m.units)}",
                 f"    {m.mistake.bug}; {m.mistake.effect}", f"    source: {m.mistake.source}"]
    for m in answer.factors[:SHOWN]:
        told.append(f"  {m.total.words}, times {m.factor}, does: {m.value:.9g}, off by {times(m.units)}")
    return told if answer.mistakes or answer.factors else told + _nearest_values(answer, bench)


def _alike(match, first):
    """Whether it differs from the first by nothing but a reading that makes no difference here."""
    return len(match.total.parts) == len(first.total.parts) == 1 and all(
        (a.equation, a.attrs, a.layers) == (b.equation, b.attrs,
                                            b.layers) and abs(match.value - first.value) <= 1e-12 * abs(
            first.value) for a, b in zip(match.total.parts, first.total.parts))


def _first_name(computation):
    settings = computation.settings
    return next(n for n, c in computation.equation.conventions.items() if c.settings == settings)


def _of_gradient(check):
    name, c = tensor(check.comparison.name, ("value",)), check.comparison
    if c.passed:
        return [f"{name} is that of this loss: off by {times(c.error)}"]
    told = [f"{name} is not that of this loss: " + (c.reason or f"{times(c.error)}, {c.bad:,} of {c.size:,} numbers")
            + (f"; got / wanted is {number(check.factor)} everywhere" if check.factor else "")]
    if check.mistake:
        told += [f"  the mistake `{check.mistake.flag}` gives the same: {check.mistake.bug}; {check.mistake.effect}",
                 f"  source: {check.mistake.source}"]
    return told


def _nearest_values(answer, bench):
    """The conventions that come nearest, for a person to compare."""
    if not np.isfinite(answer.got):
        return []
    near = sorted(search.conventional(bench, {}), key=lambda c: abs(bench.values[c.key] - answer.got))
    return [f"  nearest: {c.words}: {bench.values[c.key]:.9g}" for c in near[:3]]


def _left_out(report):
    """What was not computed, and why."""
    bench, told = report.bench, [f"{many(len(report.bench.values), 'value')} computed"]
    found = all(answer.matches for answer in report.answers)
    if bench.left_out and found:
        costs = [seconds for some in bench.left_out.values() for seconds in some]
        told.append(f"  left out, as the number was found: {many(len(costs), 'value')} of "
                    f"{many(len(bench.left_out), 'equation')}, which would take {_time(sum(costs))}")
    for name, costs in () if found else bench.left_out.items():
        told.append(f"  left out: {many(len(costs), 'value')} of {name}, which would take {_time(sum(costs))}")
    if bench.left_out and not found:
        told += [f"  on the first {SAMPLE} sequences, {words} gives {value:.4g}" for words, value in
                 list(bench.near.items())[:SHOWN]]
        told.append("  to have them tried, save a batch of fewer sequences with the loss of those")
    computed = {key[0] for key in bench.values}
    refused = {name: why for name, why in bench.refused.items() if name not in computed and not found}
    return told + [f"  not computed: {name}: {why}" for name, why in refused.items()]


def _nearest(report):
    """The equations that the fewest inputs are missing of."""
    wanting = sorted(report.missing.items(), key=lambda item: item[1].count(" and "))
    return [f"  {name} needs {words}" for name, words in wanting[:SHOWN]] + \
        [f"  {name}: {why}" for name, why in report.bench.refused.items()]


def _shape(x):
    return str(tuple(x.shape))


def _shapes(arrays):
    return " and ".join(f"{name} {_shape(x)}" for name, x in arrays.items())


def _time(seconds):
    return f"{seconds / 60:,.0f} minutes" if seconds >= 120 else f"{seconds:,.0f} seconds"


# ---------------------------------------------------------------- for programs

def document(report):
    """The report as data."""
    if report.problem:
        return {"file": report.path, "exit_code": report.exit_code, "problem": report.problem}
    saved, bench = report.saved, report.bench
    return {"file": report.path, "exit_code": report.exit_code, "read": saved.names, "numbers": saved.numbers,
            "not_read": saved.unread, "notes": report.notes, "values_computed": len(bench.values),
            "left_out": {name: {"values": len(costs), "seconds": sum(costs)} for name, costs in bench.left_out.items()},
            "missing": report.missing, "refused": bench.refused,
            "values": {a.name: {"value": _plain(a.got), "dtype": a.dtype, "passed": a.passed,
                                "matches": [_match(m) for m in a.matches], "mistakes": [_match(m) for m in a.mistakes],
                                "factors": [_match(m) for m in a.factors],
                                "gradients": [_gradient(g) for g in a.gradients]} for a in report.answers}}


def _match(m):
    found = {"words": m.total.words, "value": m.value, "off": m.units, "parts": [
        {"weight": w, "equation": p.equation.name, "reading": p.reading, "settings": p.settings,
         "attrs": p.equation.attrs | p.attrs, "layers": p.layers} for p, w in zip(m.total.parts, m.total.weights)]}
    if m.mistake:
        found["mistake"] = {n: getattr(m.mistake, n) for n in ("flag", "bug", "effect", "source")}
    return found | ({"factor": m.factor} if m.factor else {})


def _gradient(g):
    return {"input": g.name, "passed": g.comparison.passed, "off": _plain(g.comparison.error), "bad": g.comparison.bad,
            "size": g.comparison.size, "reason": g.comparison.reason, "factor": g.factor,
            "mistake": g.mistake and g.mistake.flag}


def _plain(x):
    return x if np.isfinite(x) else str(x)


def main(path, json_to=None, out=None, seconds=120):
    """Print the report, return the exit code. json_to: "-" for a document in place of the text, or a file for it."""
    report, out = identify(path, seconds), out or sys.stdout
    text = json.dumps(document(report), indent=1) + "\n"
    print(text if json_to == "-" else "\n".join(lines(report)) + "\n", end="", file=out)
    if json_to not in (None, "-"):
        Path(json_to).write_text(text, encoding="utf-8")
    return report.exit_code
