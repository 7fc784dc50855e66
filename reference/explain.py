"""One equation, or one of its cases, in words and numbers."""

import numpy as np

from tinydistill_reference import store
from tinydistill_reference.equation import equations, is_floating, traps


def explained(name, version=store.VERSION):
    """(lines, document) of "soft_labels.classes" or "soft_labels.classes/03" (the beginning of a case's id will do)."""
    equation_name, _, case_id = name.partition("/")
    if equation_name not in equations():
        near = [n for n in equations() if equation_name.split(".")[0] in n] or equations()
        raise ValueError(f"need an equation out of {', '.join(near)}; got {equation_name}")
    equation, stored = equations()[equation_name], store.load(equation_name, version)
    its_traps = {t.flag: t for t in traps(equation_name)}
    if not case_id:
        return _of_equation(equation, stored, its_traps)
    found = [s for s in stored if s.case.id.startswith(case_id)]
    if len(found) != 1:
        raise ValueError(f"need a case out of {', '.join(s.case.id for s in stored)}; got {case_id}")
    return _of_case(equation, found[0], its_traps)


def _of_equation(equation, stored, its_traps):
    document = {"equation": equation.name, "paper": equation.paper, "printed": equation.equation,
                "formula": equation.formula, "inputs": equation.shapes, "gradients": list(equation.differentiable),
                "attrs": equation.attrs,
                "conventions": {n: {"settings": c.settings, "source": c.source}
                                for n, c in equation.conventions.items()},
                "cases": {s.case.id: s.case.comment for s in stored},
                "mistakes": {t.flag: {"bug": t.bug, "effect": t.effect,
                                      "source": t.source} for t in its_traps.values()}}
    lines = [f"{equation.name}: {equation.paper}, {equation.equation}", f"  {equation.formula}",
             "  inputs: " + ", ".join(f"{n} {s}" for n, s in equation.shapes.items())
             + "".join(f", {n} = {v}" for n, v in equation.attrs.items()),
             "  gradients: " + (", ".join(equation.differentiable) or "none"), "  conventions:"]
    lines += [f"    {n}: {_settings(c)}{c.source}" for n, c in equation.conventions.items()]
    lines += ["  cases:", *(f"    {i}: {comment}" for i, comment in document["cases"].items()), "  known mistakes:"]
    lines += [f"    {t.flag}: {t.bug}; {t.effect} ({t.source})" for t in its_traps.values()]
    return lines, document


def _settings(convention):
    return ", ".join(f"{k}={v}" for k, v in convention.settings.items()) + ": " * bool(convention.settings)


def _of_case(equation, stored, its_traps):
    case = stored.case
    document = {"case": f"{equation.name}/{case.id}", "comment": case.comment, "result": case.result,
                "attrs": equation.attrs | case.attrs, "min_dtype": case.min_dtype,
                "inputs": {n: list(x.shape) for n, x in case.inputs.items()},
                "expect": {c: {n: {"shape": list(x.shape), "largest": _largest(x), "kappa": t.kappa[n]}
                               | ({"value": float(x)} if x.ndim == 0 else {}) for n, x in t.expect.items()}
                           for c, t in stored.truths.items()},
                "finds": {f: its_traps[f].bug for f in stored.flags if f in its_traps}}
    lines = [f"{equation.name}/{case.id}: {case.comment}",
             f"  {equation.formula}  ({equation.paper}, {equation.equation})",
             "  " + ", ".join(f"{n} {tuple(x.shape)}" for n, x in case.inputs.items())
             + "".join(f", {n} = {v}" for n, v in document["attrs"].items())]
    if case.result == "error":
        return lines + [f"  has to be refused, by a message that matches {case.error!r}"], document
    lines += [f"  narrowest dtype: {case.min_dtype}"] * (case.min_dtype != "bfloat16")
    for convention, tensors in document["expect"].items():
        lines += [f"  {convention}:"] + [
            f"    {n}: " + (f"{e['value']:.17g}" if "value" in e else
                            f"{tuple(e['shape'])}, largest {e['largest']:.9g}")
            + f"  (kappa {e['kappa']:.3g})" for n, e in tensors.items()]
    return lines + [f"  finds {flag}: {bug}" for flag, bug in document["finds"].items()], document


def _largest(x):
    return float(np.abs(x[np.isfinite(x)] if is_floating(x) else x).max(initial=0))
