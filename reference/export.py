"""The vectors as plain JSON, for languages without safetensors: floats as hexadecimal text, exact to the last bit."""

import json

import numpy as np

from tinydistill_reference import store
from tinydistill_reference.equation import is_floating


def plain(x):
    """{"shape": ..., "data": ...}, row by row; float.fromhex, strtod or parseFloat of the parts reads a number back."""
    x = np.asarray(x)
    data = [float(v).hex() for v in x.ravel()] if is_floating(x) else [int(v) for v in x.ravel()]
    return {"shape": list(x.shape), "dtype": "float64" if is_floating(x) else "bool" if x.dtype == bool else "int64",
            "data": data}


def document(equation, version=store.VERSION):
    """All of a vector file."""
    found = json.loads((store.FOLDER / version / f"{equation}.json").read_text(encoding="utf-8"))
    for row, stored in zip(found["cases"], store.load(equation, version)):
        case = stored.case
        upstream = case.upstream if isinstance(case.upstream, dict) else {found["outputs"][0]: case.upstream}
        row["inputs"] = {n: plain(x) for n, x in case.inputs.items()}
        row["upstream"] = {n: plain(x) for n, x in upstream.items()}
        row["expect"] = {c: {n: plain(x) | {"kappa": t.kappa[n]} | ({"zero": plain(t.zero[n])} if n in t.zero else {})
                             for n, x in t.expect.items()} for c, t in stored.truths.items()}
    return found


def write(equations, folder, version=store.VERSION):
    """[path written] of NAME.json for every equation."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in equations:
        if name not in store.names(version):
            raise ValueError(f"need an equation out of {', '.join(store.names(version))}; got {name}")
        written.append(folder / f"{name}.json")
        written[-1].write_text(json.dumps(document(name, version), indent=1) + "\n", encoding="utf-8")
    return written
