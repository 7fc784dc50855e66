"""What a line of our own source says: the statement it belongs to, the function it stands in, the equation above it."""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PARTS = "Equation|Shapes|Units|Gradient|Raises|Source"
COMMENT = re.compile(r"\s{2,}#.*")


class Place(NamedTuple):
    """A statement: the file as in `tinydistill/kernels/softmax.py`, its first line, its text in one line."""

    file: str
    line: int
    text: str


def file_of(code):
    """The file of a code object, seen from the folder that the package lies in."""
    return Path(code.co_filename).relative_to(ROOT).as_posix()


@functools.cache
def _parsed(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    return text, ast.parse(text)


@functools.cache
def statement(file, line):
    """(first line, text in one line) of the statement that a line belongs to; of a loop or a condition, its head."""
    text, tree = _parsed(file)
    within = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno]
    node = max(within, key=lambda node: node.lineno)
    segment = ast.get_source_segment(text, node)
    if hasattr(node, "body"):
        segment = segment.partition(":\n")[0]
    in_one = " ".join(COMMENT.sub("", part).strip() for part in segment.splitlines())
    return node.lineno, re.sub(r"([(\[{]) ", r"\1", in_one)


@functools.cache
def _functions(file):
    """{first line: path of nodes} for every function and lambda of a file, outermost first."""
    found = {}

    def visit(node, path):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.Lambda)):
                decorators = getattr(child, "decorator_list", [])
                first = decorators[0].lineno if decorators else child.lineno
                found.setdefault(first, path + (child,))
                visit(child, path + (child,))
            else:
                visit(child, path)

    visit(_parsed(file)[1], ())
    return found


def function_at(code):
    """(name, Place of its first line) of a function; what an op hands out is its pullback: `softmax.pullback`."""
    file = file_of(code)
    path = _functions(file)[code.co_firstlineno]
    names = [getattr(node, "name", "pullback") for node in path]
    names = [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return ".".join(names), Place(file, path[-1].lineno, "")


def equation_of(code):
    """What a function computes, in the words of its file: `Equation:` of its docstring, the formulas at the head of a
    kernel's file, `Gradient:` for a pullback; where there is no such thing, the first line of the docstring.
    """
    file = file_of(code)
    outermost, *within = _functions(file)[code.co_firstlineno]
    own = ast.get_docstring(outermost) or ""
    found = re.search(rf"{'Gradient' if within else 'Equation'}: .*?(?=\s(?:{PARTS}): |\n\n|\Z)", own, re.DOTALL)
    if found:
        return " ".join(found[0].split())
    if "/kernels/" in file:
        head = ast.get_docstring(_parsed(file)[1])
        return "\n".join(line.strip() for line in head.splitlines() if line.startswith("    "))
    return own.partition("\n")[0]
