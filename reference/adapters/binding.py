"""Which input of an equation goes to which parameter of somebody's function.

    kd(student, teacher, T=1.0, alpha=0.5)          student=student_logits, teacher=teacher_logits, T=temperature

A parameter gets, by the first of these that says something,
  1. what has its name;
  2. what its name stands for as a whole: T, tau, targets, attention_mask;
  3. what its words speak of, if that is one thing only: logits_s; student, where one input is the student's;
  4. if it must get something: the next input in the order of the equation of which its words do not speak against.
Numbers, as the temperature, go by name only. *args gets the inputs that are left, **kwargs all that is left, and any
other parameter keeps its default. What a function has no parameter for restricts what it is asked: without a mask,
cases without padding; without a temperature, cases at the default one.
"""

import inspect
import re
from dataclasses import dataclass, replace
from inspect import Parameter

import numpy as np

from tinydistill_reference.adapters.target import TargetError

WORDS = {                                           # of the glossary, and what else they are called
    "student": "s stu",
    "teacher": "t tea tch target targets",
    "logits": "z logit",
    "hidden": "h hid state states feature features",
    "queries": "q query",
    "keys": "k key",
    "values": "v value",
    "scores": "score att attn attention attentions",
    "attention": "att attn attentions",
    "embeddings": "emb embedding",
    "weight": "w projection",
    "bias": "b",
    "labels": "y label target targets",
    "mask": "attention_mask",
    "temperature": "T temp tau",
    "upstream": "grad_output dy",
}
NO_INPUT = set("alpha beta gamma lam args params config cfg dim axis reduction pad padding".split())
MANY = 16                                           # inputs that are named in one line
NAMED = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def said(word):
    """A word of the glossary and its other names."""
    return {word, *WORDS.get(word, "").split()}


def spoken(name):
    """All names of the words of an input."""
    return set().union(*(said(word) for word in name.split("_")))


def words_of(parameter):
    """student_logits and studentLogits: student, logits."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", parameter)}


def is_name(parameter, name):
    return parameter == name


def stands_for(parameter, name):
    return bool({parameter, parameter.lower()} & said(name))


def speaks_of(parameter, name):
    return bool(words_of(parameter)) and words_of(parameter) <= spoken(name)


def speaks_against(parameter, name):
    """Whether a word of the parameter means another thing. A letter means nothing, but for s and t."""
    meaningful = {word for word in NO_INPUT.union(*map(said, WORDS)) if len(word) > 1 or word in "st"}
    return bool(words_of(parameter) & meaningful - spoken(name))


def listed(names):
    """A whole model has too many weights to name them all."""
    names = list(names)
    return ", ".join(names if len(names) <= MANY else [*names[:MANY], f"{len(names) - MANY} more"])


def is_mask(name):
    return "mask" in name.split("_")


@dataclass(frozen=True)
class Binding:
    """A function, and what it is given: {parameter: (names of what it gets,)}, several for *args and **kwargs only."""

    function: object
    equation: object
    signature: inspect.Signature
    given: dict

    @property
    def name(self):
        return getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def taken(self):
        """Everything that some parameter gets, in the order of the parameters."""
        return [name for names in self.given.values() for name in names]

    @property
    def missing(self):
        return [name for name in (*self.equation.shapes, *self.equation.attrs) if name not in self.taken]

    @property
    def bound(self):
        """kd(student=student_logits, teacher=teacher_logits, T=temperature)"""
        stars = {Parameter.VAR_POSITIONAL: "*({})", Parameter.VAR_KEYWORD: "**({})"}
        told = (stars.get(self.signature.parameters[p].kind, f"{p}={{}}").format(listed(names))
                for p, names in self.given.items() if names)
        return f"{self.name}({', '.join(told)})"

    @property
    def untaken(self):
        """What the function has no parameter for, and which cases are not run therefore."""
        return "; ".join(f"no {name}" + (
            f": cases at another than {self.equation.attrs[name]:g} are not run" if name in self.equation.attrs else
            ": cases with padding are not run" if is_mask(name) else "") for name in self.missing)

    def fits(self, inputs, attrs):
        """Whether the function can be told all that is special in a case."""
        usual = self.equation.attrs
        return all(attrs.get(name, usual[name]) == usual[name] if name in usual else
                   not is_mask(name) or np.all(inputs.get(name, True)) for name in self.missing)

    def __call__(self, offered):
        """The function's result, of {name: what it is}. What a case has not is None, or the parameter's default."""
        bound = inspect.BoundArguments(self.signature, {})
        for p, names in self.given.items():
            kind, default = self.signature.parameters[p].kind, self.signature.parameters[p].default
            if kind is Parameter.VAR_POSITIONAL:
                bound.arguments[p] = tuple(offered.get(name) for name in names)
            elif kind is Parameter.VAR_KEYWORD:
                bound.arguments[p] = {name: offered[name] for name in names if name in offered}
            elif names[0] in offered or default is Parameter.empty:
                bound.arguments[p] = offered.get(names[0])
        bound.apply_defaults()
        return self.function(*bound.args, **bound.kwargs)


def bind(function, equation, signature=None, extra=()):
    """A Binding. signature: in the place of the function's own; extra: what is offered beside inputs and attrs."""
    signature = signature or signature_of(function)
    binding = Binding(function, equation, signature, {})
    given, offered = binding.given, [*equation.shapes, *equation.attrs, *extra]
    parameters = [p for p in signature.parameters.values() if p.kind in NAMED]

    def left(names):
        return [name for name in names if name not in binding.taken]

    for rule in (is_name, stands_for, speaks_of):
        for p in parameters:
            fitting = [name for name in left(offered) if rule(p.name, name)]
            if p.name not in given and len(fitting) == 1:
                given[p.name] = tuple(fitting)
    for p in parameters:
        if p.name not in given and p.default is Parameter.empty:
            fitting = [name for name in left(equation.shapes) if not speaks_against(p.name, name)]
            if not fitting:
                raise TargetError(f"{binding.name}{signature}: nothing fits {p.name}. {_offer(equation)}")
            given[p.name] = (fitting[0],)
    for p in signature.parameters.values():
        if p.kind not in NAMED:
            given[p.name] = tuple(left(equation.shapes if p.kind is Parameter.VAR_POSITIONAL else offered))
    for name in binding.missing:
        if name in equation.shapes and not is_mask(name) and not _can_do_without(equation, name):
            raise TargetError(f"{binding.name}{signature}: no parameter gets {name}. {_offer(equation)}")
    in_order = {p: given[p] for p in signature.parameters if p in given}
    return replace(binding, given=in_order)


def signature_of(function):
    """(*inputs) of what has none to be seen, as builtins."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return inspect.Signature([Parameter("inputs", Parameter.VAR_POSITIONAL)])


def _can_do_without(equation, name):
    """Whether the printed equation can: then there is a convention that does not look at this input."""
    parameter = inspect.signature(equation.forward).parameters.get(name)
    return parameter is not None and parameter.default is None


def _offer(equation):
    """What there is, and under which other names it may be asked for."""
    there = listed([f"{name} {shape}" for name, shape in equation.shapes.items()])
    there = ", ".join([there] * bool(there) + [
        f"{name} = None" if default is None else f"{name} = {default:g}" for name, default in equation.attrs.items()])
    known = {word for name in (*equation.shapes, *equation.attrs) for word in name.split("_")}
    also = "; ".join(f"{word}: {', '.join(WORDS[word].split())}" for word in WORDS if word in known)
    return f"{equation.name} offers {there}" + (f" (other names: {also})" if also else "")
