"""`--grid`: the same run for every combination of some hyper-parameters, and a table of what came out."""

import copy
import itertools
import json
from pathlib import Path

from tinydistill.commands import common
from tinydistill.errors import WrongUsage
from tinydistill.training.disk import make_directory, write_atomically

KINDS = {"lr": common.positive_float, "epochs": common.positive, "batch_size": common.positive,
         "warmup": common.natural, "max_steps": common.positive, "seed": common.natural}
RESULTS = "grid.json"                               # in --output, rewritten after every run


def flag(parser, published):
    """Add --grid; `published` says which searches have a name."""
    parser.add_argument("--grid", nargs="+", metavar="NAME=A,B", help=(
        f"run every combination, each in a folder of its own in --output, and compare on dev: of "
        f"{', '.join(KINDS)} or a setting; a search that was published by its name: {published}"))


def points(words, settings, published):
    """[{name: value}]: every combination of `--grid lr=2e-5,3e-5 epochs=3,4`, or of the published search.

    settings: {name: value} of the method, whose kinds the values get. published: {name: search}.

    >>> points(["lr=1e-3,1e-4", "temperature=5,10"], {"temperature": 1.0}, {})[1]
    {'lr': 0.001, 'temperature': 10.0}
    """
    if len(words) == 1 and "=" not in words[0]:
        if not published.get(words[0]):
            named = ", ".join(name for name in published if published[name]) or "none"
            raise WrongUsage(f"need a grid such as --grid lr=2e-5,3e-5, or the name of a published search (here: {named}); "
                             f"got {words[0]!r}")
        axes = {name: list(values) for name, values in published[words[0]].items()}
    else:
        axes = dict(_axis(word, settings) for word in words)
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def _axis(word, settings):
    name, equals, values = word.partition("=")
    if not equals or name not in KINDS | settings.keys():
        raise WrongUsage(f"need --grid NAME=A,B with a name out of {', '.join([*KINDS, *settings])}; got {word!r}")
    kind = KINDS.get(name) or type(settings[name])
    try:
        return name, [kind(value) for value in values.split(",")]
    except Exception:
        raise WrongUsage(f"need values of {name} parted by commas, got {values!r}") from None


def search(args, once, settings=None, published=None):
    """Run `once(args)` at every point; --resume goes on after those that are done. Returns the table as a dict."""
    settings, folder = settings or {}, Path(args.output)
    found = points(args.grid, settings, published or {})
    results = json.loads((folder / RESULTS).read_text()) if args.resume and (folder / RESULTS).exists() else {}
    if not args.resume and folder.exists() and any(folder.iterdir()):
        raise WrongUsage(f"need an empty folder for the grid: {folder} is not; go on with --resume, or choose another --output")
    make_directory(folder)
    for i, point in enumerate(found):
        name = _name(point)
        if name in results:
            continue
        common.say(args, f"{i + 1} of {len(found)}: {name}")
        here = copy.copy(args)
        here.output, here.grid = str(folder / name), None
        for axis, value in point.items():
            if axis in settings:
                here.set = [*here.set, f"{axis}={value}"]
            else:
                setattr(here, axis, value)
        results[name] = once(here)
        write_atomically(folder / RESULTS, json.dumps(results, indent=1).encode())
    scored = [(point, results[_name(point)]) for point in found]
    kept = "dev" if "dev" in scored[0][1] else "held_out"
    return {"output": args.output, "metric": next(iter(scored[0][1].get(kept, {})), None), "lower is better": kept != "dev",
            "grid": [point | result.get(kept, {}) for point, result in scored]}


def _name(point):
    """The folder of a point."""
    return ",".join(f"{axis}={value}" for axis, value in point.items())


def text(result):
    """The table, the best first."""
    rows, metric = result["grid"], result["metric"]
    if metric:
        rows = sorted(rows, key=lambda row: row[metric], reverse=not result["lower is better"])
    return common.table(rows, list(rows[0]))
