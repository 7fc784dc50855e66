"""`tinydistill verify`: somebody's implementation, beside the truth. Also `python -m tinydistill_reference`.

Exit codes: 0 passed, 1 failed, 2 wrong usage, 3 nothing was tested.
"""

import argparse
import json
import sys
from pathlib import Path

from tinydistill_reference import store
from tinydistill_reference.conventions import CHOICES
from tinydistill_reference.equation import equations, traps

KINDS = ("torch", "jax", "numpy", "command")
EPILOG = """examples:
  verify --impl mylosses.py:kd --as torch --equation soft_labels.classes
  verify --impl "node kd.js" --as command --equation soft_labels.classes --dtype float32
  verify --list
  verify --explain minilm.attention/02"""


class WrongUsage(Exception):
    """One line: what was needed, what came."""


def arguments(parser):
    """The flags of `verify`."""
    parser.epilog, parser.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    what = parser.add_argument_group("what to check")
    what.add_argument("--impl", metavar="TARGET", help="module:function, file.py:function, or a command line")
    what.add_argument("--as", dest="kind", choices=KINDS, help="how it is called (default: command for a program, else "
                                                             "what its module imports)")
    what.add_argument("--equation", nargs="+", metavar="NAME",
                      help="see --list; left out, all that the function's arguments fit are tried")
    what.add_argument("--dtype", nargs="+", choices=("float64", "float32", "float16", "bfloat16"), default=["float32"],
                      help="what to compute in (default float32)")
    what.add_argument("--convention", default="paper", metavar="C",
                      help="what it is held to: a name out of --list; any, to accept each of them; or settings, as in "
                           "divisor=row,temperature_squared=off (default paper)")
    what.add_argument("--strict", action="store_true",
                      help="fail, too, where the teacher gets a gradient, and where wrong arguments are not refused")
    what.add_argument("--xfail", metavar="FILE", help="lines `equation/case  reason`: failures that are known")
    what.add_argument("--vectors", default=store.VERSION, metavar="V", help=f"their version (default {store.VERSION})")
    out = parser.add_argument_group("what comes out")
    out.add_argument("--json", nargs="?", const="-", metavar="FILE", help="a JSON document, to a file or to stdout")
    out.add_argument("--junit", metavar="FILE", help="XML for continuous integration")
    out.add_argument("--html", metavar="FILE", help="one page, with pictures of the errors")
    kit = parser.add_argument_group("the kit itself")
    kit.add_argument("--list", action="store_true", help="equations, conventions, and how many cases and mistakes")
    kit.add_argument("--explain", metavar="CASE", help="an equation or one of its cases: minilm.attention/02")
    kit.add_argument("--selftest", action="store_true", help="is every known mistake found and named?")
    kit.add_argument("--export", choices=("json",), help="the vectors as plain JSON with hexadecimal floats")
    kit.add_argument("--output", metavar="DIR", help="where --export writes to (default .)")
    saved = parser.add_argument_group("saved numbers")
    saved.add_argument("--dump", metavar="FILE", help=".npz or .safetensors: which loss gives the value in it?")
    saved.add_argument("--seconds", type=float, default=120, help="how long to search (default 120)")


def run(args):
    """Carry out what was asked; returns the exit code."""
    asked = [name for name in COMMANDS if getattr(args, name)]
    if len(asked) != 1:
        raise WrongUsage(f"need one of {', '.join(f'--{name}' for name in COMMANDS)}; got "
                         + (" and ".join(f"--{name}" for name in asked) or "none"))
    if not (store.FOLDER / args.vectors / "INDEX.json").exists():
        there = sorted(p.name for p in store.FOLDER.iterdir() if p.is_dir())
        raise WrongUsage(f"need a version of the vectors out of {', '.join(there)}; got {args.vectors}")
    try:
        return COMMANDS[asked[0]](args)
    except BrokenPipeError:                         # the reader of our output has gone
        raise
    except OSError as problem:
        raise WrongUsage(f"{problem.filename}: {problem.strerror}") from problem


def _print(args, lines, document):
    """To stdout: the document with --json, else the lines."""
    if args.json == "-":
        print(json.dumps(document, indent=1))
    else:
        print("\n".join(lines))
    if args.json not in (None, "-"):
        Path(args.json).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _impl(args):
    from tinydistill_reference import html, junit, report, xfail
    from tinydistill_reference.adapters import adapt
    from tinydistill_reference.trials import tried
    call = adapt(args.kind or ("numpy" if ":" in args.impl else "command"),
                 args.impl) if args.kind else _guess(args.impl)
    for name in args.equation or ():
        if name not in equations():
            near = [n for n in equations() if name.split(".")[0] in n] or equations()
            raise WrongUsage(f"need an equation out of {', '.join(near)}; got {name}")
    results = tried(call, args.equation, args.dtype, _convention(args, args.equation or list(equations())),
                    args.vectors, args.strict)
    if args.xfail:
        results = xfail.apply(results, args.xfail)
    _print(args, [line for r in results for line in report.lines(r)] or ["nothing was tested"],
           report.document(results))
    for path, make in ((args.junit, junit.text), (args.html, html.page)):
        if path:
            Path(path).write_text(make(results), encoding="utf-8")
    if any(r.status == "failed" or (args.strict and r.of("unrefused")) for r in results):
        return 1
    return 0 if any(r.status == "passed" for r in results) else 3


def _guess(target):
    from tinydistill_reference.adapters import adapt, found
    from tinydistill_reference.verify import kind_of
    return adapt(kind_of(found(target)), target) if ":" in target else adapt("command", target)


def _convention(args, names):
    """A name, "any", or {setting: value}."""
    text = args.convention
    if "=" not in text:
        known = {c for name in names for c in equations()[name].conventions} | {"any"}
        if text not in known:
            raise WrongUsage(f"need a convention out of {', '.join(sorted(known))}, or settings; got {text}")
        return text
    words = {"on": True, "off": False, "true": True, "false": False}
    settings = {}
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        name = {"T2": "temperature_squared", "reduction": "divisor"}.get(name.strip(), name.strip())
        value = {"batchmean": "row", "mean": "element", "sum": "none"}.get(value, value)
        settings[name] = words.get(value.lower(), float(value) if _is_number(value) else value)
    read = {name for e in names for c in equations()[e].conventions.values() for name in c.settings}
    for name, value in settings.items():
        if name not in read:
            raise WrongUsage(f"need settings out of {', '.join(sorted(read)) or 'none'}; got {name}")
        if name in CHOICES and value not in CHOICES[name]:
            raise WrongUsage(f"need {name} out of {', '.join(map(str, CHOICES[name]))}; got {value}")
    return settings


def _is_number(text):
    return text.replace(".", "", 1).replace("e-", "", 1).isdigit()


def _list(args):
    rows = [{"equation": e.name, "paper": e.paper, "printed": e.equation, "formula": e.formula, "inputs": e.shapes,
             "attrs": e.attrs, "gradients": list(e.differentiable),
             "conventions": {n: {"settings": c.settings, "source": c.source} for n, c in e.conventions.items()},
             "cases": [s.case.id for s in store.load(e.name, args.vectors)],
             "mistakes": [t.flag for t in traps(e.name)]}
            for e in equations().values()]
    lines = [f"{r['equation']:34} {len(r['cases']):3} cases {len(r['mistakes']):3} mistakes  "
             f"{r['paper']}, {r['printed']}  [{', '.join(r['conventions'])}]" for r in rows]
    cases, mistakes = (sum(len(r[kind]) for r in rows) for kind in ("cases", "mistakes"))
    total = f"{len(rows)} equations, {cases} cases, {mistakes} mistakes"
    _print(args, [*lines, total], rows)
    return 0


def _explain(args):
    from tinydistill_reference import explain
    lines, document = explain.explained(args.explain, args.vectors)
    _print(args, lines, document)
    return 0


def _selftest(args):
    from tinydistill_reference import selftest
    measured = selftest.measure(args.equation)
    _print(args, list(measured.lines()), measured.document())
    return 0 if measured.passed else 1


def _export(args):
    from tinydistill_reference import export
    written = export.write(args.equation or store.names(args.vectors), Path(args.output or "."), args.vectors)
    _print(args, [f"{len(written)} files in {args.output or '.'}"], [str(path) for path in written])
    return 0


def _dump(args):
    from tinydistill_reference import dump
    return dump.main(args.dump, args.json, seconds=args.seconds)


COMMANDS = {"impl": _impl, "list": _list, "explain": _explain, "selftest": _selftest, "export": _export, "dump": _dump}


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tinydistill_reference", description=__doc__.split("\n")[0])
    arguments(parser)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except (WrongUsage, ValueError) as problem:
        print(f"verify: {problem}", file=sys.stderr)
        return 2
