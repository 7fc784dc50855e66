"""Vector files: vectors/v1/NAME.json beside NAME.safetensors, listed with their hashes in INDEX.json.

The JSON says what a case is (schema/vectors-1.json), the tensors are under CASE/input/NAME, CASE/upstream/OUTPUT,
CASE/CONVENTION/TENSOR and CASE/CONVENTION/TENSOR/zero: float64 of which inputs are exact in float32, int64, and uint8
for what is true or false.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from tinydistill_reference.equation import Case
from tinydistill_reference.truth import Truth

FOLDER = Path(__file__).resolve().parent / "vectors"
VERSION = "v1"
# The hash of INDEX.json of each version that is out: it never changes again.
RELEASED = {"v1": "d7b03d7bbe9d8db10234360133a53c4ced841e1fdc77d5438c2fc2c1e3267c35"}
SETTABLE = ("id", "comment", "attrs", "result", "accepted", "error", "min_dtype")


@dataclass(frozen=True)
class Stored:
    """A case of a vector file. truths: {convention: Truth}, with an entry for each convention that it is for."""

    case: Case
    truths: dict
    flags: tuple


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(equation, cases, folder, flags, header):
    """cases: [(Case, {convention: Truth, or the name of the convention that has the same})]."""
    tensors, rows = {}, []
    for case, truths in cases:
        row = {name: getattr(case, name) for name in SETTABLE}
        row["inputs"] = {name: _kept(tensors, f"{case.id}/input/{name}", x) for name, x in case.inputs.items()}
        upstream = case.upstream if isinstance(case.upstream, dict) else {equation.outputs[0]: case.upstream}
        row["upstream"] = {name: _kept(tensors, f"{case.id}/upstream/{name}", x) for name, x in upstream.items()}
        row["expect"], row["flags"] = {}, sorted(flags.get(case.id, ()))
        for convention, truth in truths.items():
            if isinstance(truth, str):
                row["expect"][convention] = truth
                continue
            place = f"{case.id}/{convention}"
            row["expect"][convention] = {
                name: {"tensor": _kept(tensors, f"{place}/{name}", x), "kappa": truth.kappa[name]}
                | ({"zero": _kept(tensors, f"{place}/{name}/zero", truth.zero[name])} if name in truth.zero else {})
                for name, x in truth.expect.items()}
        rows.append(row)
    document = header | {
        "equation": equation.name, "reference": {"paper": equation.paper, "equation": equation.equation},
        "formula": equation.formula, "shapes": equation.shapes, "differentiable": equation.differentiable,
        "outputs": equation.outputs, "attrs": equation.attrs,
        "conventions": {name: {"settings": c.settings, "source": c.source} for name, c in equation.conventions.items()},
        "cases": rows}
    (folder / f"{equation.name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (folder / f"{equation.name}.safetensors").write_bytes(safetensors.numpy.save(dict(sorted(tensors.items()))))


def _kept(tensors, key, x):
    x = np.asarray(x)
    kind = np.uint8 if x.dtype == bool else np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64
    tensors[key] = np.ascontiguousarray(x, kind).reshape(x.shape)
    return key if x.dtype != bool else {"tensor": key, "bool": True}


def names(version=VERSION):
    """The equations that have vectors."""
    return sorted(path.stem for path in (FOLDER / version).glob("*.safetensors"))


def load(equation, version=VERSION):
    """[Stored], in order."""
    document = json.loads((FOLDER / version / f"{equation}.json").read_text(encoding="utf-8"))
    tensors = safetensors.numpy.load_file(FOLDER / version / f"{equation}.safetensors")

    def tensor(key):
        return tensors[key["tensor"]].astype(bool) if isinstance(key, dict) else tensors[key]

    found = []
    for row in document["cases"]:
        upstream = {name: tensor(key) for name, key in row["upstream"].items()}
        if len(document["outputs"]) == 1:
            upstream, = upstream.values()
            upstream = float(upstream) if upstream.ndim == 0 else upstream
        truths = {}
        for convention, expect in row["expect"].items():
            truths[convention] = truths[expect] if isinstance(expect, str) else Truth(
                {n: tensor(e["tensor"]) for n, e in expect.items()}, {n: e["kappa"] for n, e in expect.items()},
                {n: tensor(e["zero"]) for n, e in expect.items() if "zero" in e})
        case = Case(inputs={n: tensor(key) for n, key in row["inputs"].items()}, upstream=upstream,
                    conventions=tuple(truths), **{n: row[n] for n in SETTABLE})
        found.append(Stored(case, truths, tuple(row["flags"])))
    return found
