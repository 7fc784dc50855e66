"""Are the vectors what they were, and what the printed equations say? Each function yields complaints, in words."""

import json

import numpy as np

from tinydistill_reference import store
from tinydistill_reference.equation import equations, is_floating, traps
from tinydistill_reference.fingerprints import fingerprint, same
from tinydistill_reference.generate import cases_of
from tinydistill_reference.numbers import Numbers
from tinydistill_reference.truth import AGREE, in_float64
from tinydistill_reference.witnesses import along, total

BYTES_OF_A_FILE, BYTES_IN_ALL = 256 * 1024, 8 * 1024 * 1024


def hashes(folder):
    """No file has changed, none is missing, none is new; and the index is the one that was released."""
    index = json.loads((folder / "INDEX.json").read_text(encoding="utf-8"))["files"]
    there = {p.name for p in folder.iterdir()} - {"INDEX.json", "CHANGES.md"}
    yield from (f"{name} is missing" for name in sorted(index.keys() - there))
    yield from (f"{name} is not in INDEX.json" for name in sorted(there - index.keys()))
    yield from (f"{name} has changed: its hash is not that of INDEX.json"
                for name in sorted(there & index.keys()) if store.digest(folder / name) != index[name])
    released = store.RELEASED.get(folder.name)
    if released and store.digest(folder / "INDEX.json") != released:
        yield f"INDEX.json of {folder.name} is not the one that was released"


def sizes(folder):
    """A file is small enough to be read, all of them to be shipped."""
    bytes_of = {p.name: p.stat().st_size for p in folder.iterdir()}
    yield from (f"{name} has {n} bytes, more than {BYTES_OF_A_FILE}" for name, n in bytes_of.items()
                if n > BYTES_OF_A_FILE and name != "FINGERPRINTS.json")
    if sum(bytes_of.values()) > BYTES_IN_ALL:
        yield f"{sum(bytes_of.values())} bytes in all, more than {BYTES_IN_ALL}"


def truths(equation, stored):
    """The stored numbers are those of the printed equation, and its gradient is its derivative."""
    case, numbers = stored.case, Numbers(stored.case.id, 3)
    for name, truth in stored.truths.items():
        if case.result == "error" or name != next(n for n, t in stored.truths.items() if t is truth):
            continue
        settings, where = equation.settings(name), f"{equation.name}/{case.id}, {name}"
        for tensor, got in in_float64(equation, case, settings).items():
            want, kappa = truth.expect[tensor], truth.kappa[tensor]
            if got.shape != want.shape or not _close(got, want, kappa):
                yield f"{where}: the printed {tensor} is not the stored one"
            if is_floating(want) and kappa < 4 * np.abs(want[np.isfinite(want)]).max(initial=0):
                yield f"{where}: kappa of {tensor} is smaller than 4 max|{tensor}|"
        if case.result == "valid" and equation.differentiable:
            names = [n for n in equation.differentiable]
            directions = [numbers.normal(*case.inputs[n].shape) for n in names]
            measured = along(lambda x: total(case.upstream, equation.values(x, case.attrs, settings)),
                             case.inputs, names, directions)
            claimed = sum((truth.expect[f"d{n}"] * v).sum() for n, v in zip(names, directions))
            room = sum(truth.kappa[f"d{n}"] * np.abs(v).sum() for n, v in zip(names, directions))
            if not abs(measured - claimed) <= AGREE * room:
                yield f"{where}: the stored gradient is not the derivative of the printed forward"


def _close(got, want, kappa):
    if not is_floating(want):
        return np.array_equal(got, want)
    with np.errstate(invalid="ignore"):
        return bool(((np.abs(got - want) <= AGREE * kappa) | (got == want) | (np.isnan(got) & np.isnan(want))).all())


def inputs(equation, stored):
    """The stored inputs are those that the cases of the equation make."""
    made = {case.id: case for case in cases_of(equation)}
    if list(made) != [s.case.id for s in stored]:
        yield f"{equation.name}: its cases are {', '.join(made)}, stored are {', '.join(s.case.id for s in stored)}"
        return
    for s in stored:
        case, again = s.case, made[s.case.id]
        if case.inputs.keys() != again.inputs.keys() or not all(
                np.array_equal(x, again.inputs[n], equal_nan=is_floating(x)) for n, x in case.inputs.items()):
            yield f"{equation.name}/{case.id}: the stored inputs are not those that the case makes"
        if (case.attrs, case.result, case.comment) != (again.attrs, again.result, again.comment):
            yield f"{equation.name}/{case.id}: the stored case is not the case"


def fingerprints(folder, only=None):
    """Every printed equation and every trap computes what it did when the vectors were made."""
    kept = json.loads((folder / "FINGERPRINTS.json").read_text(encoding="utf-8"))
    found = {"equations": {n: (e, None) for n, e in equations().items()},
             "traps": {f"{t.equation}/{t.flag}": (equations()[t.equation], t) for t in traps()}}
    for kind, things in found.items():
        yield from (f"{kind}: {name} has no fingerprint" for name in things.keys() - kept[kind].keys())
        yield from (f"{kind}: {name} has gone" for name in kept[kind].keys() - things.keys())
        for name, (equation, trap) in things.items():
            if (only is None or equation.name in only) and name in kept[kind] and \
                    not same(fingerprint(equation, trap), kept[kind][name]):
                yield f"{kind}: {name} does not compute what it did when the vectors were made"


def of_equation(equation, stored):
    """Complaints about one equation's vectors."""
    yield from inputs(equation, stored)
    for s in stored:
        yield from truths(equation, s)


def of_all(version=store.VERSION):
    """Complaints about the files of a version, and what is in them."""
    yield from hashes(store.FOLDER / version)
    yield from sizes(store.FOLDER / version)
    if store.names(version) != sorted(equations()):
        yield f"there are vectors of {store.names(version)}, but equations {sorted(equations())}"
