"""Make the vectors of a version: `python -m tinydistill_reference.generate [EQUATION ...]`. Needs mpmath.

A version that has been released is never made again: `lint` refuses vectors whose hash is not that of INDEX.json.
"""

import argparse
import json
import sys
import time

import numpy as np
from tqdm import tqdm

from tinydistill_reference import store
from tinydistill_reference.equation import equations, is_floating, traps
from tinydistill_reference.fingerprints import fingerprint
from tinydistill_reference.kills import flags_of
from tinydistill_reference.numbers import Numbers, exact
from tinydistill_reference.truth import Truth, agreed


def cases_of(equation, seed=0):
    """Its cases, of numbers that float32 has."""
    for case in equation.cases(Numbers(equation.name, seed)):
        for name, x in case.inputs.items():
            if is_floating(x) and not (exact(x) == x).all():
                raise ValueError(f"{equation.name}/{case.id}: need numbers that float32 has in {name}")
        yield case


def truths_of(equation, case):
    """{convention: Truth, or the name of an earlier convention with the same settings}."""
    found, seen = {}, {}
    for name, convention in equation.conventions.items():
        if case.conventions is None or name in case.conventions:
            key = repr(sorted(convention.settings.items()))
            if case.result == "error":
                found[name] = Truth({}, {}, {})
            elif key in seen:
                found[name] = seen[key]
            else:
                truth, seen[key] = agreed(equation, case, convention.settings), name
                found[name] = next((n for n, t in found.items() if same_numbers(t, truth)), truth)
    return found


def same_numbers(one, other):
    """Whether two conventions agree on this case."""
    return isinstance(one, Truth) and all(
        np.abs(one.expect[n] - x).max(initial=0) <= 1e-13 * np.abs(x).max(initial=0) if is_floating(x) else
        np.array_equal(one.expect[n], x) for n, x in other.expect.items())


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tinydistill_reference.generate", description=__doc__)
    parser.add_argument("equations", nargs="*", help="all when none is named")
    parser.add_argument("--index", action="store_true", help="only the index and the fingerprints")
    arguments = parser.parse_args(argv)
    chosen = arguments.equations or list(equations()) * (not arguments.index)
    if unknown := set(chosen) - equations().keys():
        parser.error(f"no equation {sorted(unknown)[0]}")
    folder = store.FOLDER / store.VERSION
    folder.mkdir(parents=True, exist_ok=True)
    header = {"schema": "vectors-1", "version": store.VERSION, "made": time.strftime("%Y-%m-%d")}
    for name in (bar := tqdm(chosen, file=sys.stderr, disable=not chosen)):
        bar.set_description(name)
        equation = equations()[name]
        made = [(case, truths_of(equation, case)) for case in cases_of(equation)]
        store.write(equation, made, folder, flags_of(equation, made, traps(name)), header)
    if not arguments.equations:
        write_index(folder, header)
    return 0


def write_index(folder, header):
    """The hash of every file, and what every trap and every printed equation computes."""
    prints = {"equations": {}, "traps": {}}
    for name, equation in equations().items():
        prints["equations"][name] = fingerprint(equation)
        for trap in traps(name):
            prints["traps"][f"{name}/{trap.flag}"] = fingerprint(equation, trap)
    (folder / "FINGERPRINTS.json").write_text(json.dumps(prints, indent=1) + "\n", encoding="utf-8")
    files = {p.name: store.digest(p) for p in sorted(folder.iterdir()) if p.name not in ("INDEX.json", "CHANGES.md")}
    index = header | {"files": files}
    (folder / "INDEX.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
