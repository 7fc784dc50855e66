"""How good is the kit? `tinydistill verify --selftest` breaks every equation in every known way and counts.

    found           known mistakes that at least one case finds, in float64 and in float32 (has to be all)
    named right     known mistakes that are named, and no other, when an implementation has them (95 %)
    false alarms    right implementations that fail: the printed code in float64 and in float32 (none); the tests add
                    PyTorch and other algebra, with sixty seeds each
    lint            complaints about the vectors themselves (none)
"""

import multiprocessing
import os
import time
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from tinydistill_reference import lint, store
from tinydistill_reference.diagnose import matches
from tinydistill_reference.equation import Case, equations, is_floating, traps
from tinydistill_reference.kills import answer, found_by
from tinydistill_reference.runner import run

DTYPES = ("float64", "float32")
NEEDED = 0.95                                       # of the mistakes have to be named


@dataclass(frozen=True)
class Measured:
    """What was counted. unfound, unnamed: "equation/flag dtype" of mistakes; alarms, complaints: in words."""

    equations: int = 0
    cases: int = 0
    mistakes: int = 0
    sourced: int = 0
    unfound: tuple = ()
    unnamed: tuple = ()
    alarms: tuple = ()
    complaints: tuple = ()
    seconds: float = 0.0

    def __add__(self, other):
        return Measured(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def trials(self):
        return len(DTYPES) * self.mistakes

    @property
    def passed(self):
        missed = self.unfound or self.alarms or self.complaints
        return not missed and len(self.unnamed) <= (1 - NEEDED) * self.trials

    def document(self):
        """Of --json."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"passed": self.passed}

    def lines(self):
        """For a person."""
        yield f"{self.equations} equations, {self.cases} cases, " \
            f"{self.mistakes} known mistakes ({self.sourced} with a source)"
        yield f"found:        {self.trials - len(self.unfound)} of {self.trials}, in {' and '.join(DTYPES)}"
        yield f"named right:  {self.trials - len(self.unnamed)} of {self.trials}"
        yield f"false alarms: {len(self.alarms)}"
        yield f"lint:         {len(self.complaints)} complaints"
        yield f"{self.seconds:.0f} seconds"
        yield from (f"not found: {mistake}" for mistake in self.unfound)
        yield from (f"not named: {mistake}" for mistake in self.unnamed)
        yield from (*self.alarms, *self.complaints)


def measure(only=None, progress=True):
    """Measured, of all equations or of some, on all cores."""
    began, names = time.monotonic(), list(only or equations())
    workers = min(len(names), os.cpu_count() or 1)
    with multiprocessing.get_context("spawn" if os.name == "nt" else "fork").Pool(workers) as pool:
        found = pool.imap_unordered(of_equation, names)
        parts = list(tqdm(found, total=len(names), disable=not progress, desc="selftest"))
    whole = sum(sorted(parts, key=lambda part: part.unfound + part.unnamed), Measured())
    complaints = (*whole.complaints, *lint.of_all(), *(() if only else lint.fingerprints(store.FOLDER / store.VERSION)))
    return replace(whole, complaints=complaints, seconds=round(time.monotonic() - began, 1))


def of_equation(name):
    """Measured, of one."""
    equation, stored = equations()[name], store.load(name)
    known = [remembered(trap) for trap in traps(name)]
    unfound, unnamed, alarms = [], [], []
    for dtype in DTYPES:
        for convention, reading in equation.conventions.items():
            result = run(equation, printed(equation, reading.settings), dtype, convention, stored=stored, strict=True)
            alarms += [f"false alarm: {name}/{o.id} in {dtype}, {convention} {o.words}"
                       for o in result.of("failed", "unrefused")]
        for trap in known:
            likely_first = sorted(stored, key=lambda s: trap.flag not in s.flags)
            if not any(found_by(equation, trap, s, dtype) for s in likely_first):
                unfound.append(f"{name}/{trap.flag} {dtype}")
                continue
            result = run(equation, mistaken(equation, trap), dtype, stored=stored, strict=True)
            first, *others = matches(equation, result.outcomes, dtype, known)
            if first.trap is not trap or any(m.share >= first.share for m in others):
                unnamed.append(f"{name}/{trap.flag} {dtype}")
    return Measured(1, len(stored), len(known), sum(t.source != "constructed" for t in known), tuple(unfound),
                    tuple(unnamed), tuple(alarms), tuple(lint.of_equation(equation, stored)))


def remembered(trap):
    """The same mistake, each answer computed once."""
    answers = {}

    def key(equation, arrays, attrs, upstream=None):
        upstream = upstream if isinstance(upstream, dict) else {"": upstream}
        seen = map(np.asarray, (*arrays.values(), *upstream.values()))
        return str(equation.settings()), str(attrs), *(
            (str(x.dtype), str(x) if x.dtype == object else x.tobytes()) for x in seen)

    def values(equation, inputs, attrs):
        k = key(equation, inputs, attrs)
        if k not in answers:
            answers[k] = trap.values(equation, inputs, attrs)
        return answers[k]

    def gradients(equation, upstream, inputs, attrs):
        k = key(equation, inputs, attrs, upstream)
        if k not in answers:
            answers[k] = trap.gradients(equation, upstream, inputs, attrs)
        return answers[k]
    return replace(trap, values=values, gradients=gradients)


def mistaken(equation, trap):
    """An implementation that has this mistake."""
    def call(name, attrs, inputs, grads, upstream, dtype):
        return answer(equation, trap, Case("", "", inputs, attrs, upstream), dtype)
    return call


def printed(equation, settings):
    """An implementation that is right: the printed code, in dtype."""
    def call(name, attrs, inputs, grads, upstream, dtype):
        inputs = {n: x.astype(dtype) if is_floating(x) else x for n, x in inputs.items()}
        return {n: np.asarray(x) for n, x in equation.everything(upstream, inputs, attrs, settings).items()}
    return call
