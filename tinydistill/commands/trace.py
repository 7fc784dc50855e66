"""`tinydistill trace`: one loss on two short sentences, every intermediate with its name, its line and its values."""

import math
import os
import re
import sys
import textwrap

import numpy as np

from tinydistill.commands import common, heat_map
from tinydistill.commands import trace_example as example
from tinydistill.errors import WrongUsage
from tinydistill.losses import TERMS
from tinydistill.trace import trace

HELP = "show every intermediate of a loss and of its gradients, on two sentences, beside the lines that compute them"
WIDTH = 120


def arguments(parser):
    parser.add_argument("--loss", required=True, metavar="NAME", help="a term of `tinydistill losses`")
    parser.add_argument("--convention", metavar="NAME", help="one that the loss has (default: its own)")
    parser.add_argument("--temperature", type=common.positive_float, metavar="T", help="default: the loss's own")
    parser.add_argument("--seed", type=common.natural, default=0, metavar="N", help="of the numbers that are compared")


def run(args):
    if args.loss not in TERMS:
        raise WrongUsage(f"need a loss out of {', '.join(TERMS)}; got {args.loss!r}")
    term = TERMS[args.loss].under(args.convention or TERMS[args.loss].convention)
    term = term.but(temperature=args.temperature or term.temperature)
    shown = example.build(term, args.seed)
    return document(shown, trace(shown.loss, shown.inputs, left_out=[term.loss]))


def document(shown, traced):
    """The trace as data: `calls` are functions entered, `steps` are arrays in the order in which they get their names.

    A step is another name for step `number` where `values` is null; a call's arguments are {"step": number} or a value.
    """
    term, steps = shown.term, traced.steps
    calls = list(dict.fromkeys(call for step in steps for call in (*step.call.parents, step.call)))
    tokens = [[example.VOCABULARY[i] for i in sentence] for sentence in shown.batch.ids]
    read = range(shown.batch.ids.size) if shown.batch.positions is None else shown.batch.positions.tolist()
    return {
        "loss": term.name, "paper": term.paper, "term_equation": term.equation, "notes": term.notes,
        "convention": term.convention, "convention_source": term.rule.source, "temperature": term.temperature,
        "value": traced.loss.item(), "tokens": tokens, "mask": shown.batch.mask.tolist(),
        "vocabulary": list(example.VOCABULARY), "read": list(read), "calls": [_call(call, calls) for call in calls],
        "steps": [_step(step, calls) for step in steps],
        "loss_step": traced.step_of(traced.loss.array).number,
        "gradients": {name: None if gradient is None else traced.step_of(gradient).number
                      for name, gradient in traced.gradients.items()}}


def _call(call, calls):
    return {"phase": call.phase, "depth": call.depth, "function": call.function, "file": call.place.file,
            "line": call.place.line, "equation": call.equation,
            "inside": [calls.index(parent) for parent in call.parents],
            "arguments": {name: value if isinstance(value, (bool, int, float, str)) else {"step": value.number}
                          for name, value in call.arguments.items()}}


def _step(step, calls):
    made, of = step.made, step.gradient_of
    return {"number": step.number, "phase": step.call.phase, "depth": step.call.depth, "function": step.call.function,
            "file": step.place.file, "line": step.place.line, "source": step.place.text, "name": step.name,
            "shape": list(step.values.shape), "dtype": step.values.dtype.name, "equation": step.call.equation,
            "values": None if step.twin else _plain(step.values.tolist()), "call": calls.index(step.call),
            "made": made and {"file": made.file, "line": made.line, "source": made.text},
            "gradient_of": of and of.number}


def _plain(values):
    """Nested lists of numbers; those that JSON does not have are text: "-inf"."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return str(values) if isinstance(values, float) and not math.isfinite(values) else values


# ---------------------------------------------------------------- for people

def text(result):
    colour = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    words = heat_map.Words(*(result[name] for name in ("tokens", "mask", "vocabulary", "read")))
    drawn, entered, explained, source = _head(result, colour), set(), set(), None
    for i, step in enumerate(result["steps"]):
        if i == 0 or step["phase"] != result["steps"][i - 1]["phase"]:
            drawn += ["", step["phase"].upper()]
        for call in (*result["calls"][step["call"]]["inside"], step["call"]):
            if call not in entered:
                entered.add(call)
                drawn += _entered(result["calls"][call], explained)
                source = None
        drawn += _shown(step, words, colour, step["source"] == source)
        source = step["source"] if step["values"] is not None else None
    return "\n".join(line.rstrip() for line in drawn + _end(result))


def _head(result, colour):
    sizes = "red above 0, blue below, stronger for larger numbers" if colour else \
        f"{' '.join(heat_map.BLOCKS[1:])} the size of a number beside the largest of its array"
    temperature = "" if result["temperature"] == 1 else f", temperature {result['temperature']:g}"
    source = f": {result['convention_source']}" if result["convention_source"] else ""
    lines = [f"{result['loss']}: {result['paper']}, {result['term_equation']}{temperature}",
             f"convention {result['convention']}{source}", *([result["notes"]] if result["notes"] else []),
             f"{sizes}; {heat_map.PADDING} padding; [7] the seventh array, shown once and then named by its number"]
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, subsequent_indent="    ")]


def _entered(call, explained):
    """A function with its arguments and, the first time that it is entered, what it computes."""
    indent = "  " * (call["depth"] + 1)
    given = ", ".join(f"{name} [{value['step']}]" if isinstance(value, dict) else f"{name} {value}"
                      for name, value in call["arguments"].items())
    head = f"{call['function']}({given})  {_place(call)}"
    lines = ["", *textwrap.wrap(head, WIDTH, initial_indent=indent, subsequent_indent=indent + "    ")]
    if _place(call) in explained:
        return lines
    explained.add(_place(call))
    room = WIDTH - len(indent) - 4
    formulas = [part for line in call["equation"].splitlines()
                for part in (re.split(" {4,}", line) if len(line) > room else [line])]
    return lines + [f"{indent}  | {part}" for line in formulas for part in textwrap.wrap(line, room)]


def _shown(step, words, colour, same_source):
    indent = "  " * (step["depth"] + 2)
    shape = "" if not step["shape"] else f" ({', '.join(map(str, step['shape']))})"
    if step["values"] is None:
        return [indent + f"{step['name']}{shape} = [{step['number']}]  {_place(step)}"]
    array = np.array(step["values"], step["dtype"])
    drawn, cut = heat_map.lines(array, words, WIDTH - len(indent) - 4, colour) if array.ndim else ([], [])
    title = f"[{step['number']}] {step['name']}{shape}" + (f" = {heat_map.number(array)}" if not array.ndim else "")
    title += f"  dloss/d[{step['gradient_of']}]" if step["gradient_of"] else ""
    title += f"  ({'; '.join(cut)})" if cut else ""
    code = [] if same_source else [step]
    if step["made"] and step["made"]["source"] != step["source"]:
        code.append(step["made"])
    return [indent + title, *(indent + "    " + _with_place(line, WIDTH - len(indent) - 4) for line in code),
            *(indent + "    " + line for line in drawn)]


def _place(where):
    return f"{where['file'].removeprefix('tinydistill/')}:{where['line']}"


def _with_place(where, width):
    """A line of source and where it stands, cut to fit."""
    source, room = where["source"], width - len(_place(where)) - 2
    return f"{source if len(source) <= room else source[:room - 2] + ' …'}  {_place(where)}"


def _end(result):
    names = {step["number"]: step["name"] for step in result["steps"]}
    reached = {name: f"[{number}] {names[number]}" if number else "none, the loss does not depend on it"
               for name, number in result["gradients"].items()}
    number = result["loss_step"]
    return ["", f"the loss: {result['value']:.6g}, [{number}] {names[number]}", "its gradients:",
            *(f"  {name}: {where}" for name, where in reached.items())]
