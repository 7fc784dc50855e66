"""Published implementations, as installed from the package index, checked by the kit: what an entry is, and its row.

Each `published_<package>.py` imports its package and has a tuple PUBLISHED. The glue of an entry renames, reshapes and
chooses arguments; it repairs nothing. What is expected to come out stands beside it, so that a release which behaves in
another way is noticed.
"""

import importlib
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from typing import Callable

from tinydistill_reference import report, store
from tinydistill_reference.adapters import adapt
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run
from tinydistill_reference.words import listed, tensor

DTYPES = ("float32", "float64")
SHOWN = 3                                           # failed cases that are named; more are counted


@dataclass(frozen=True)
class Package:
    """A package of the index. install: the arguments of pip that were used; imports: whether it can be imported
    together with the torch and transformers of the extras `test`."""

    name: str
    module: str
    install: str
    imports: bool = True


PACKAGES = (
    Package("torch", "published_torch", "torch==2.13.0"),
    Package("transformers", "published_transformers", "transformers==5.24.0"),
    Package("textbrewer", "published_textbrewer", "textbrewer==0.2.1.post1"),
    Package("torchdistill", "published_torchdistill", "--no-deps torchdistill==1.1.5"),
    Package("liger-kernel", "published_liger", "--no-deps liger-kernel==0.8.5"),
    Package("trl", "published_trl", "trl==1.16.0"),
    Package("KD-Lib", "published_kd_lib", "--no-deps KD-Lib==0.0.32", imports=False),
)


@dataclass(frozen=True)
class Published:
    """A published function beside an equation.

    glue: it, as a function of the equation's inputs; how: the call in words. convention: "any", or the settings that no
    named convention has; expected: what `result` says, in both dtypes or as (float32, float64); why: what is to be said
    of a result that is not the paper's; only(case): which cases the function is meant for.
    """

    function: str
    how: str
    equation: str
    glue: Callable
    expected: str | tuple = "paper"
    why: str = ""
    convention: str | dict = "any"
    only: Callable = field(default=lambda case: True)

    def ran(self, dtype):
        """The runner's Result, and how it ended in a few words."""
        equation = equations()[self.equation]
        stored = [s for s in store.load(self.equation) if self.only(s.case)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = run(equation, adapt("torch", self.glue), dtype, self.convention, stored=stored)
        return found, ended(found)

    def expects(self, dtype):
        return self.expected if isinstance(self.expected, str) else self.expected[DTYPES.index(dtype)]


def ended(result):
    """The convention under which it passes; or FAIL with the known mistake, else the factor, else what failed where."""
    if result.status == "passed":
        changed = {n: x for n, x in result.settings.items() if result.equation.settings().get(n) != x}
        return ", ".join(f"{n}={x}" for n, x in changed.items()) if result.convention == "asked" else result.convention
    if result.status == "nothing":
        return "nothing was tested"
    seen = report.verdict(result)
    if seen.best and seen.best.share == 1:
        under = seen.best.convention
        return f"FAIL {seen.best.trap.flag}" + f" (under {under})" * (under != result.equation.named())
    bad = dict.fromkeys(c.name for o in result.of("failed") for c in o.comparisons.get(result.convention, ())
                        if not c.passed)
    factors = [f"{listed(names)} times {factor}" for factor, names in report.factors(result, bad).items()]
    if factors:
        return "FAIL " + "; ".join(factors)
    what = [tensor(name, result.equation.outputs) for name in bad] or sorted({o.words for o in seen.failed})
    where = [o.id for o in result.of("failed")]
    return f"FAIL {listed(what)} in {', '.join(where) if len(where) <= SHOWN else f'{len(where)} cases'}"


def rows(packages=PACKAGES, dtypes=DTYPES):
    """A row, a dict, for every entry of the packages that are installed; for the others one that says so."""
    for package in packages:
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            yield {"package": package.name, "status": "not installed", "install": f"pip install {package.install}"}
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                entries = importlib.import_module(f"{__package__}.{package.module}").PUBLISHED
        except ImportError as problem:
            words = str(problem).partition(" (")[0]                 # without the folder of the installation
            yield {"package": package.name, "version": version, "install": f"pip install {package.install}",
                   "status": "does not import", "words": words, "as_expected": not package.imports}
            continue
        yield from (row(package, version, entry, dtypes) for entry in entries)


def row(package, version, entry, dtypes=DTYPES):
    """What came of one entry."""
    found = {"package": package.name, "version": version, "install": f"pip install {package.install}", "status": "ran",
             "function": entry.function, "how": entry.how, "equation": entry.equation, "why": entry.why, "results": {},
             "as_expected": True}
    for dtype in dtypes:
        result, words = entry.ran(dtype)
        good, tried = (len(result.of(*of)) for of in (("passed", "acceptable"), ("passed", "acceptable", "failed")))
        found["results"][dtype] = {"result": words, "expected": entry.expects(dtype), "passed": good, "ran": tried,
                                   "skipped": len(result.of("skipped")), "tested": report.tested(result)}
        found["as_expected"] &= words == entry.expects(dtype)
    return found


def in_words(found):
    """What a row says in float32 and float64: once, where it is the same. Cases: those that pass, of those that ran."""
    told = {dtype: f"{r['result']} ({r['passed']} of {r['ran']})" for dtype, r in found["results"].items()}
    same = len(set(told.values())) == 1
    return next(iter(told.values())) if same else "; ".join(f"{dtype}: {words}" for dtype, words in told.items())


def line(found):
    """A row as one line of text."""
    if found["status"] == "not installed":
        return f"--    {found['package']}: not installed: {found['install']}"
    begin = f"{'ok' if found['as_expected'] else 'NEW':5} {found['package']} {found['version']}"
    if found["status"] != "ran":
        return f"{begin}: {found['status']}: {found['words']}"
    expected = "" if found["as_expected"] else "  expected " + "; ".join(
        f"{dtype}: {r['expected']}" for dtype, r in found["results"].items())
    return f"{begin}  {found['function']} ({found['how']})  {found['equation']}  {in_words(found)}{expected}"


def markdown(found):
    """The rows as a table."""
    def cells(r):
        if r["status"] != "ran":
            return [f"{r['package']} {r.get('version', '')}".strip(), "", "", f"{r['status']}", r.get("words", "")]
        return [f"{r['package']} {r['version']}", f"`{r['function']}` {r['how']}".strip(), f"`{r['equation']}`",
                in_words(r), r["why"]]
    heads = ["package", "function, and how it is called", "equation", "result (cases that pass)", "what to make of it"]
    table = [heads, ["---"] * len(heads), *map(cells, found)]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |" for cells in table]
