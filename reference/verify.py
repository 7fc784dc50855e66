"""The kit from Python: check a function, or let pytest check it case by case.

    from tinydistill_reference import verify
    verify.check(my_loss, "minilm.value_relation").raise_if_failed()

    @verify.cases("minilm.value_relation", dtype="float32")
    def test_my_loss(case):
        case.check(my_loss)
"""

from dataclasses import dataclass

from tinydistill_reference import report, store
from tinydistill_reference.adapters import adapt
from tinydistill_reference.equation import equations
from tinydistill_reference.runner import run


@dataclass(frozen=True)
class Check:
    """What came of it: `passed`, the text, and the runner's Result."""

    result: object

    @property
    def passed(self):
        return self.result.status == "passed"

    def __str__(self):
        return "\n".join(report.lines(self.result))

    def raise_if_failed(self):
        """AssertionError with the report; where nothing could be tested, too."""
        if not self.passed:
            raise AssertionError("\n" + str(self))


@dataclass(frozen=True)
class VerifiedCase:
    """One case of an equation, for a test."""

    equation: object
    stored: store.Stored
    dtype: str
    convention: object

    def check(self, function, adapter=None):
        """AssertionError with the report where the function is wrong; pytest's skip where the case cannot be run."""
        result = run(self.equation, adapt(adapter or kind_of(function), function), self.dtype, self.convention,
                     stored=[self.stored])
        outcome, = result.outcomes
        if outcome.status == "skipped":
            import pytest
            pytest.skip(outcome.words)
        if outcome.status in ("failed", "unrefused"):
            raise AssertionError("\n" + str(Check(result)))

    def __str__(self):
        return f"{self.equation.name}/{self.stored.case.id}"


def check(function, equation, adapter=None, dtype="float64", convention="paper", version=store.VERSION, strict=False):
    """Check a function against an equation, by name. adapter: "torch", "jax", "numpy"; None looks what it uses.

    strict: a teacher that gets a gradient is a failure, too.
    """
    known = named(equation)
    return Check(run(known, adapt(adapter or kind_of(function), function), dtype, convention, version, strict=strict))


def cases(equation, dtype="float64", convention="paper", version=store.VERSION, errors=False):
    """A pytest decorator: the test gets every `case`; errors: those, too, that have to be refused."""
    import pytest
    known = named(equation)
    chosen = [VerifiedCase(known, s, dtype, convention) for s in store.load(equation, version)
              if errors or s.case.result != "error"]
    return pytest.mark.parametrize("case", chosen, ids=str)


def named(name):
    """The equation of this name."""
    known = equations()
    if name not in known:
        near = [n for n in known if name.split(".")[0] in n]
        raise ValueError(f"need an equation out of {', '.join(near or known)}; got {name!r}")
    return known[name]


def kind_of(function):
    """"torch" or "jax" where the function's module has imported one of them, "numpy" otherwise."""
    seen = getattr(function, "__globals__", None) or getattr(getattr(function, "forward", None), "__globals__", {})
    modules = {getattr(x, "__name__", "").partition(".")[0] for x in seen.values()}
    modules |= {(getattr(x, "__module__", "") or "").partition(".")[0] for x in seen.values()}
    return next((kind for kind in ("torch", "jax") if kind in modules), "numpy")
