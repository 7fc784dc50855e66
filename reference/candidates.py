"""What may have been computed of saved tensors: equations, readings of them, temperatures and layers.

    a reading       the settings of a convention; the same with T^2 on or off; or with one setting out of another's
    a layer         of arrays with a leading axis: each pair of layers by itself, and sums and means over pairs
    a total         of two equations of one paper, or alpha times labels and 1 - alpha times a teacher
"""

import inspect
import itertools
import re
from dataclasses import dataclass, field

import numpy as np

from tinydistill_reference.conventions import CHOICES
from tinydistill_reference.saved import PER_LAYER
from tinydistill_reference.words import number

USUAL = {"temperature": (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0),
         "relation_heads": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64),
         "smoothing": (0.1, 0.05, 0.2), "ground_truth": (0.5, 0.1, 0.9)}
ALPHAS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
PAIRS = 64                                          # of layers that are tried one by one
CONVENTION, SQUARED, MIXED = range(3)               # how far a reading is from what somebody has written


@dataclass(frozen=True)
class Computation:
    """One value: an equation under a reading, at one choice of layers. layers: {"student": l, "teacher": l}, or {}."""

    equation: object
    reading: str
    rank: int
    settings: dict = field(compare=False)
    attrs: dict = field(compare=False)
    layers: dict = field(compare=False)
    key: tuple = ()

    @property
    def words(self):
        attrs = "".join(f", {name} {number(value)}" for name, value in self.attrs.items())
        return f"{self.equation.name}, {self.reading}{attrs}{_of_layers(self.layers)}"


@dataclass(frozen=True)
class Total:
    """A sum of computations with weights; one alone is a Total, too."""

    parts: tuple
    weights: tuple = (1.0,)
    name: str = ""

    @property
    def words(self):
        return self.name or self.parts[0].words

    @property
    def rank(self):
        return max(part.rank for part in self.parts)


@dataclass(frozen=True)
class Filled:
    """An equation with the arrays that it gets. layered: those whose first axis is one of layers; notes: what was
    assumed."""

    equation: object
    inputs: dict
    layered: dict
    notes: tuple = ()

    def index(self, name, layers):
        """Where in an input a choice of layers is."""
        return layers[side_of(name)] if name in self.layered else ...

    def at(self, layers):
        """{input: array} at a choice of layers."""
        return {name: x[self.index(name, layers)] for name, x in self.inputs.items()}


def side_of(name):
    return "teacher" if name.startswith("teacher") else "student"


def axes(equation, name):
    """["B", "A", "T", "K"] of an input; an axis may be a product, "4 D"."""
    return [axis.strip() for axis in re.search(r"\((.*?)\)", equation.shapes[name])[1].split(",") if axis.strip()]


# ---------------------------------------------------------------- which equations

def with_scores(inputs):
    """The inputs, with scores made of queries and keys where they are not there; and a note of it."""
    inputs, notes = dict(inputs), []
    for side in ("student", "teacher"):
        q, k = (inputs.get(f"{side}_{name}") for name in ("queries", "keys"))
        if q is not None and k is not None and f"{side}_scores" not in inputs and q.shape == k.shape and q.ndim > 2:
            inputs[f"{side}_scores"] = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
            notes.append(f"{side}_scores are those of {side}_queries and {side}_keys")
    return inputs, notes


def fill(equation, inputs):
    """The equation Filled, or in words what it needs beside them."""
    letters = {name: axes(equation, name) for name in equation.shapes}
    optional = {name for name, p in inspect.signature(equation.forward).parameters.items() if p.default is not p.empty}
    here = {name: inputs[name] for name in letters if name in inputs}
    alone = [len(letters[n]) - x.ndim == 1 and letters[n][0] == "B" and "logits" not in n for n, x in here.items()]
    if alone and all(alone):
        here = {name: x[None] for name, x in here.items()}                              # a batch of one
    found, layered, sizes, notes = {}, {}, {}, []
    for name, x in here.items():
        if x.ndim == len(letters[name]) + 1:
            if letters[name][0] in ("M", "N"):
                x = x.reshape(-1, *x.shape[2:])                                         # (B, T, ...) -> (B*T, ...)
            elif name.rpartition("_")[2] in PER_LAYER:
                layered[name] = len(x)
        found[name] = x
        lengths = list(zip(letters[name], x.shape[name in layered:]))
        if x.ndim - (name in layered) != len(letters[name]) or any(a.isdigit() and int(a) != n for a, n in lengths):
            if name not in optional:
                return f"{name} {equation.shapes[name]}, got {x.shape}"
            del found[name]
            continue
        for axis, n in lengths:
            if axis.rstrip("'").isalpha() and sizes.setdefault(axis, n) != n:
                return f"one {axis} for all: {name} has {n}, others {sizes[axis]}"
    missing = sorted(letters.keys() - found.keys() - optional)
    if "mask" in missing and set(letters["mask"]) <= sizes.keys():
        missing.remove("mask")
        found["mask"] = np.ones([sizes[axis] for axis in letters["mask"]], bool)
        notes.append("no mask: all tokens are real")
    if missing:
        return " and ".join(missing)
    return Filled(equation, {name: found[name] for name in letters if name in found}, layered, tuple(notes))


# ---------------------------------------------------------------- which readings

def readings(equation, has_labels, ranks=(CONVENTION, SQUARED)):
    """[(words, rank, settings)], conventions first; none twice."""
    parameters = inspect.signature(equation.forward).parameters
    defaults = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY and n not in equation.attrs}
    named = {}
    for name, convention in equation.conventions.items():
        named.setdefault(_key(defaults | convention.settings), (convention.settings, []))[1].append(name)
    seen = {n: {c.settings[n] for c in equation.conventions.values() if n in c.settings}
            for n in {n for c in equation.conventions.values() for n in c.settings}}
    found = {key: (f"convention {' = '.join(names)}", CONVENTION, settings) for key, (settings, names) in named.items()}
    for setting in sorted(defaults.keys() | seen.keys(), key=lambda n: (n != "temperature_squared", n)):
        rank = SQUARED if setting == "temperature_squared" else MIXED
        values = (*CHOICES.get(setting, ()), *seen.get(setting, ()), *(v for n, v in defaults.items() if n == setting))
        for value in dict.fromkeys(values):
            for settings, names in named.values():
                changed = settings | {setting: value}
                found.setdefault(_key(defaults | changed),
                                 (f"convention {names[0]} but {setting} {value}", rank, changed))
    return [(words, rank, settings) for words, rank, settings in found.values()
            if rank in ranks and (has_labels or settings.get("rows") != "labelled")]


def _key(settings):
    return repr(sorted(settings.items()))


def attributes(equation, numbers, others=False):
    """[{name: number}]: those that were saved, usual temperatures where none was, and the equation's own numbers.

    others: usual ones in the place of all these.
    """
    whole = {name for name, own in equation.attrs.items() if isinstance(own, int)}
    choices = {n: [int(numbers[n]) if n in whole else numbers[n]] for n in equation.attrs if n in numbers}
    for name in equation.attrs.keys() & USUAL.keys():
        usual = list(dict.fromkeys((equation.attrs[name], *USUAL[name])))
        if others:
            choices[name] = [x for x in usual if x != numbers.get(name)]
        elif name not in numbers:
            choices[name] = usual if name == "temperature" else usual[:1]
    return [dict(zip(choices, at)) for at in itertools.product(*choices.values())]


# ---------------------------------------------------------------- which layers

def layer_maps(M, L):
    """{words: [(student's layer, teacher's)]} of M and L layers: how methods put them side by side.

    The first of the saved may be the embeddings, and then takes no part, or stands beside that of the teacher.
    """
    found = {"same": [(m, m) for m in range(min(M, L))], "last": [(m, L - M + m) for m in range(M) if L >= M],
             "uniform": [(m, (m + 1) * L // M - 1) for m in range(M) if L % M == 0]}
    if M > 1 and L > 1 and (L - 1) % (M - 1) == 0:
        step = (L - 1) // (M - 1)
        found |= {"uniform behind the first": [(m, m * step) for m in range(1, M)],
                  "the first, and uniform behind it": [(m, m * step) for m in range(M)]}
    maps = {}
    for words, pairs in found.items():
        if pairs and pairs not in maps.values():
            maps[words] = pairs
    return maps


def layer_choices(filled):
    """([{"student": l, "teacher": l}], {words: several of them}): each choice by itself, and those that are summed."""
    depth = {side_of(name): count for name, count in filled.layered.items()}
    if len(depth) < 2:
        single = [dict(zip(depth, at)) for at in itertools.product(*map(range, depth.values()))]
        return single, {"all layers": single} if len(single) > 1 else {}
    M, L = depth["student"], depth["teacher"]
    maps = {words: [{"student": m, "teacher": l} for m, l in pairs] for words, pairs in layer_maps(M, L).items()}
    every = [{"student": m, "teacher": l} for m in range(M) for l in range(L)]
    if len(every) > PAIRS:
        every = [at for at in every if any(at in pairs for pairs in maps.values())]
    return sorted(every, key=lambda at: (at["student"] != M - 1, at["teacher"] != L - 1)), maps


def _of_layers(layers):
    return "".join(f", {side}'s [{l}]" for side, l in layers.items())


# ---------------------------------------------------------------- all of it

def computations(filled, numbers, ranks=(CONVENTION, SQUARED), others=False):
    """([Computation], [Total over layers]) of one equation."""
    equation, singles, sums = filled.equation, [], []
    choices, maps = layer_choices(filled)
    for attrs in attributes(equation, numbers, others):
        for words, rank, settings in readings(equation, "labels" in filled.inputs, ranks):
            if rank == SQUARED and attrs.get("temperature", equation.attrs.get("temperature")) == 1:
                continue                            # T^2 is 1
            at = {_key(layers): Computation(equation, words, rank, settings, attrs, layers,
                                            (equation.name, _key(settings), _key(attrs), _key(layers)))
                  for layers in choices}
            singles += at.values()
            for name, pairs in maps.items():
                if len(pairs) > 1:
                    parts = tuple(at[_key(layers)] for layers in pairs)
                    for kind, weight in (("sum", 1.0), ("mean", 1 / len(parts))):
                        sums.append(Total(parts, (weight,) * len(parts), _summed(parts, kind, name)))
    return singles, sums


def _summed(parts, kind, name):
    plain = parts[0].words.removesuffix(_of_layers(parts[0].layers))
    pairs = ", ".join("-".join(str(l) for l in part.layers.values()) for part in parts)
    return f"{plain}, {kind} over layers {pairs} ({name})"


def totals(singles):
    """Totals of two: equations of one paper under one reading, and labels beside a teacher."""
    found = []
    for one, other in itertools.combinations(singles, 2):
        if one.equation.name == other.equation.name or one.layers != other.layers:
            continue
        same_t = one.attrs.get("temperature") == other.attrs.get("temperature")
        if one.equation.name.split(".")[0] == other.equation.name.split(".")[0]:
            if one.reading == other.reading and same_t:
                found.append(Total((one, other), (1.0, 1.0), f"{one.words} + {other.words}"))
        hard = next((c for c in (one, other) if not any(side_of(n) == "teacher" for n in c.equation.shapes)), None)
        soft = other if hard is one else one
        if hard and "logits" in " ".join(hard.equation.shapes) and "teacher_logits" in soft.equation.shapes:
            found += [Total((hard, soft), (a, 1 - a),
                            f"{a:g} x {hard.words} + {1 - a:g} x {soft.words}") for a in ALPHAS]
            found.append(Total((hard, soft), (1.0, 1.0), f"{hard.words} + {soft.words}"))
    return found
