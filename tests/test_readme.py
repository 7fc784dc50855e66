"""The README keeps its word: its example prints what it says, its commands parse, its files are there."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from tinydistill import cli, losses

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_print_what_they_say():
    tests = doctest.DocTestParser().get_doctest(README, {}, "README.md", "README.md", 0)
    assert len(tests.examples) > 10
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(tests).failed == 0


COMMANDS = sorted(set(re.findall(r"^    (?:echo .*\| )?tinydistill (.*)$", README, re.M)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    cli.parser().parse_args(shlex.split(command))


def test_there_are_commands_to_parse():
    assert len(COMMANDS) >= 6


def test_every_file_that_is_named_is_there():
    named = set(re.findall(r"`((?:tinydistill|reference|tests|scripts|kernels|losses|ops)/[\w/]+\.?\w*)`", README))
    assert len(named) > 10
    missing = [path for path in named if not (ROOT / path).exists() and not (ROOT / "tinydistill" / path).exists()]
    assert not missing


def test_the_table_of_losses_is_whole():
    table = README[README.index("## Losses"):]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.M)) == set(losses.TERMS)
    for term in losses.TERMS.values():
        assert re.search(rf"`{re.escape(term.name)}` \| {re.escape(term.paper)}, {re.escape(term.equation)}", table), term.name


def test_the_matrix_is_what_the_command_prints(capsys):
    assert cli.main(["matrix"]) == 0
    assert capsys.readouterr().out.rstrip() in README
