"""What came of comparing two models, for people and for programs."""

from dataclasses import dataclass, field

import numpy as np

from tinydistill_reference.tolerance import C, UNITS
from tinydistill_reference.words import many, number, pair, times

ORDER = ("queries", "keys", "values", "scores", "hidden")              # of what a layer computes
RUNS = 3                                            # with nudged weights
SHOWN = 5                                           # parameters


@dataclass
class Side:
    """A model, or what another program computed. features {(field, layer or None): array}, padding 0."""

    name: str
    title: str
    dtype: str
    features: dict
    config: object = None
    parameters: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """first, second: the Sides. compared {(field, layer): Comparison}, in order; parameters {name: Comparison} of those
    whose bits differ; settings {name: (one, other)}; notes: what was not compared."""

    first: Side
    second: Side
    ids: str
    dtype: str
    compared: dict
    parameters: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    notes: tuple = ()

    @property
    def place(self):
        """(field, layer) of the first feature that differs, or None."""
        return next((place for place, c in self.compared.items() if not c.passed), None)

    @property
    def wrong_parameters(self):
        return {name: c for name, c in self.parameters.items() if not c.passed}

    @property
    def exit_code(self):
        return int(self.place is not None or bool(self.wrong_parameters))

    def lines(self):
        """For people."""
        depth = 1 + max((l for _, l in self.compared if l is not None), default=-1)
        told = [f"first   {self.first.name}: {self.first.title}", f"second  {self.second.name}: {self.second.title}",
                f"on {self.ids}", ""]
        told += _stage("embeddings", {p: c for p, c in self.compared.items() if p[0] == "embeddings"})
        for l in range(depth):
            told += _stage(f"layer {l}", {p: c for p, c in self.compared.items() if p[1] == l})
        for name in ("pooled", "logits", "next_sentence"):
            told += _stage(name, {p: c for p, c in self.compared.items() if p[0] == name})
        settings = [f"setting that differs: {name}: {one} and {other}" for name, (one, other) in self.settings.items()]
        return [*told, "", *self._verdict(depth), *self._parameter_lines(), *settings, *self.notes,
                f"allowed: {C} u kappa, u = {UNITS[self.dtype]:.2g} of {self.dtype}, kappa by {RUNS} runs with nudged "
                "weights and one in float32"]

    def _verdict(self, depth):
        if self.place is None:
            return ["all features are equal" + ", but parameters are not: other ids may show it"
                    * bool(self.wrong_parameters)]
        name, layer = self.place
        c = self.compared[self.place]
        where = f"layer {layer} (of 0 to {depth - 1}), and in it {name}" if layer is not None else name
        values = pair(*(s.features[self.place][c.index] for s in (self.first, self.second)))
        told = [f"the first that differs: {where}: {times(c.error)} at {list(c.index)}, {values[0]} and {values[1]}; "
                f"{c.bad:,} of {c.size:,} numbers"]
        before = [p for p in self.compared if p[1] == layer and p[0] in ORDER[:-1]]
        if name == "hidden" and before:
            told.append("  behind the scores: what attention reads, its output, the feed-forward or a norm")
        return told

    def _parameter_lines(self):
        wrong, rest = self.wrong_parameters, len(self.parameters) - len(self.wrong_parameters)
        told = [f"parameter that differs: {name}: "
                + (c.reason or f"{c.bad:,} of {c.size:,} numbers, by up to {number(c.largest)}")
                for name, c in list(wrong.items())[:SHOWN]]
        told += [f"  and {many(len(wrong) - SHOWN, 'more parameter')}"] * (len(wrong) > SHOWN)
        told += [f"{many(rest, 'parameter')} of other bits, within rounding"] * bool(rest)
        kind = _rounded_to(self.first.parameters, self.second.parameters, self.parameters)
        return told + [f"  {kind}"] * bool(kind)

    def document(self):
        """For programs."""
        def plain(c):
            return {"off": c.error if np.isfinite(c.error) else str(c.error), "passed": c.passed, "largest": c.largest,
                    "index": list(c.index), "bad": c.bad, "size": c.size, "reason": c.reason}
        return {"first": self.first.name, "second": self.second.name, "ids": self.ids, "dtype": self.dtype,
                "exit_code": self.exit_code, "first_difference": self.place and
                {"field": self.place[0], "layer": self.place[1]},
                "features": [{"field": f, "layer": l, **plain(c)} for (f, l), c in self.compared.items()],
                "parameters": {name: plain(c) for name, c in self.parameters.items()},
                "settings": {name: list(both) for name, both in self.settings.items()}, "notes": list(self.notes)}


def _stage(name, compared):
    """One line on what is computed together."""
    if not compared:
        return []
    worst = max(c.error for c in compared.values())
    wrong = [f"{field} {times(c.error)}" if len(compared) > 1 else times(c.error)
             for (field, _), c in compared.items() if not c.passed]
    return [f"  {name:11} " + (f"differs: {', '.join(wrong)}" if wrong else f"equal ({times(worst)})")]


def _rounded_to(first, second, differing):
    """Whether all parameters that differ are those of the other, rounded: in words, or ""."""
    for kind in ("float16", "bfloat16"):
        for one, two, whose in ((first, second, "second"), (second, first, "first")):
            if differing and all(one[n].shape == two[n].shape and np.array_equal(_rounded(one[n], kind), two[n])
                                 for n in differing):
                return f"each of them is the other's, rounded to {kind}: those of the {whose}"
    return ""


def _rounded(x, kind):
    x = x.astype(np.float32)
    if kind == "float16":
        return x.astype(np.float16).astype(np.float32)
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)     # to the nearest, to even
