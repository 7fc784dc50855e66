"""The trace as a document and as text: what is printed, where, and in how many columns."""

import json
import re
import sys

import pytest

from tinydistill import cli
from tinydistill.commands import trace as command
from tinydistill.losses import TERMS


def call(function, depth, inside, equation, **arguments):
    return {"phase": "backward" if "pullback" in function else "forward", "depth": depth, "function": function,
            "file": "tinydistill/ops/toy.py", "line": 10 + depth, "equation": equation, "inside": inside,
            "arguments": arguments}


def step(number, called, name, values, source, made=None, gradient_of=None, dtype="float64", shape=(2, 3)):
    where = {key: SMALL_CALLS[called][key] for key in ("phase", "depth", "function", "equation")}
    return {**where, "number": number, "name": name, "file": "tinydistill/ops/toy.py", "line": 20 + number,
            "source": source, "shape": list(shape), "dtype": dtype, "values": values, "call": called,
            "gradient_of": gradient_of,
            "made": made and {"file": "tinydistill/kernels/toy.py", "line": 7, "source": made}}


REMARK = "with a remark so long that the two do not fit into one line "
SMALL_CALLS = [call("outer", 0, [], "Equation: y = 2 x", x={"step": 1}, temperature=2.0),
               call("inner", 1, [0], "y = 2 x      " + REMARK * 2, x={"step": 1}),
               call("outer.pullback", 0, [], "Equation: y = 2 x", dy={"step": 3})]
SMALL = {
    "loss": "toy", "paper": "Nobody 2020", "term_equation": "eq. 1", "notes": "", "convention": "paper",
    "convention_source": "nobody", "temperature": 2.0, "value": 0.5,
    "tokens": [["[CLS]", "a", "[SEP]"], ["[SEP]"] + ["[PAD]"] * 2], "mask": [[True] * 3, [True, False, False]],
    "vocabulary": ["[PAD]", "a"], "read": [0, 1, 3, 4], "calls": SMALL_CALLS,
    "steps": [step(1, 0, "x", [[1.0, 2.0, 4.0], [1.0, 0.0, 0.0]], "return outer(x)"),
              step(1, 0, "alias", None, "alias = x"),
              step(2, 1, "heads", [[[[1.0]], [[1.0]]]], "y = " + "2 * " * 40 + "x", shape=(1, 2, 1, 1)),
              step(3, 1, "y", 0.5, "y = inner(x)", made="return 2 * x", shape=()),
              step(4, 2, "dx", [[1.0, 2.0, -4.0], [1.0, 0.0, 0.0]], "return 2 * x", made="return 2 * x", gradient_of=1),
              step(5, 2, "db", [7, -100], "return 2 * x", dtype="int64", shape=(2,))],
    "loss_step": 3, "gradients": {"student x": 4, "student b": None}}
TEXT = """
toy: Nobody 2020, eq. 1, temperature 2
convention paper: nobody
░ ▒ ▓ █ the size of a number beside the largest of its array; · padding; [7] the seventh array, shown once and then
    named by its number

FORWARD

  outer(x [1], temperature 2.0)  ops/toy.py:10
    | Equation: y = 2 x
    [1] x (2, 3)
        return outer(x)  ops/toy.py:21
         [CLS]      a  [SEP]     [SEP]  [PAD]  [PAD]
             1░     2▒     4█        1░     0·     0·
    alias (2, 3) = [1]  ops/toy.py:21

    inner(x [1])  ops/toy.py:11
      | y = 2 x
      | with a remark so long that the two do not fit into one line with a remark so long that the two do not fit into
      | one line
      [2] heads (1, 2, 1, 1)  (first of 2 shown)
          y = 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2 …  ops/toy.py:22
           1█
      [3] y = 0.5
          y = inner(x)  ops/toy.py:23
          return 2 * x  kernels/toy.py:7

BACKWARD

  outer.pullback(dy [3])  ops/toy.py:10
    [4] dx (2, 3)  dloss/d[1]
        return 2 * x  ops/toy.py:24
         [CLS]      a  [SEP]     [SEP]  [PAD]  [PAD]
             1░     2▒    -4█        1░     0·     0·
    [5] db (2)
            0     1
            7░ -100█

the loss: 0.5, [3] y
its gradients:
  student x: [4] dx
  student b: none, the loss does not depend on it
"""


def test_what_is_printed_of_a_small_trace():
    assert command.text(SMALL) == TEXT.strip()


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_the_text_fits_into_120_columns_and_has_no_colour_in_a_pipe(capsys, term):
    assert cli.main(["trace", "--loss", term.name]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120 and "\033" not in text
    assert text.index("\nFORWARD\n") < text.index("\nBACKWARD\n") < text.index("\nthe loss: ")
    assert " ".join(text.split()).startswith(f"{term.name}: {term.paper}, {term.equation}")


def test_json_is_one_strict_document_and_minus_infinity_is_text(capsys):
    def no_constant(name):
        raise AssertionError(f"{name} is not JSON")

    assert cli.main(["trace", "--loss", "minilm.attention", "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    lowered = [s for s in document["steps"] if s["name"] == "lowered"][0]
    assert lowered["values"][1][0][0][4] == "-inf" and isinstance(lowered["values"][0][0][0][0], float)
    assert {"phase", "depth", "function", "file", "line", "name", "shape", "equation", "values"} <= lowered.keys()
    sentences = ["[CLS] the cat sleeps [SEP]", "[CLS] hello [SEP] [PAD] [PAD]"]
    assert [" ".join(tokens) for tokens in document["tokens"]] == sentences


def test_flags_change_what_is_computed(capsys):
    def value(*flags):
        assert cli.main(["trace", "--loss", "soft_labels.tokens", "--json", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    plain, hot = value(), value("--temperature", "3")
    other, seed = value("--convention", "tinybert"), value("--seed", "1")
    assert len({d["value"] for d in (plain, hot, other, seed)}) == 4
    assert hot["temperature"] == 3 and other["convention"] == "tinybert" and plain["convention"] == "paper"
    assert value() == plain


@pytest.mark.parametrize("flags, says", [(("--loss", "minilm.atention"), "minilm.attention"),
                                         (("--loss", "minilm.attention", "--convention", "papre"), "paddlenlp")])
def test_an_unknown_name_is_one_line_that_lists_the_known_ones(capsys, flags, says):
    assert cli.main(["trace", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and says in err


def test_a_terminal_with_colours_gets_them(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = command.text(SMALL)
    assert "\033[48;5;" in coloured and "█" not in coloured
    assert max(len(re.sub(r"\033\[[0-9;]*m", "", line)) for line in coloured.splitlines()) <= 120
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert "\033" not in command.text(SMALL)
