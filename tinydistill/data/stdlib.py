"""The English of Python's own documentation: real text that is on every machine, about something the reader knows.

Its sources are `pydoc_data.topics` (what `help("if")` prints) and the docstrings of the standard library, whose files
are parsed and never imported. The text differs a little between Python versions, and not between two machines with the
same one, unless a system ships parts of the library (tkinter) apart.
"""

import ast
import functools
import re
import sys
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path

from tinydistill.errors import Problem

LEFT_OUT = {"encodings", "ensurepip", "idlelib", "lib2to3", "test", "tests", "turtledemo"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
LONGEST = 30                                        # words in a row: about 64 pieces of a vocabulary of 1,000
WORD = re.compile(r"\W*[A-Za-z]+(['’-][A-Za-z]+)*\W*")


@dataclass(frozen=True)
class Document:
    """One row of text, and the module whose docstring it comes from ("topics": pydoc_data.topics)."""

    text: str
    module: str


def documents():
    """Every row of Python's documentation, in a fixed order, none twice.

    A row is one paragraph of a docstring or topic, with single spaces; a paragraph of more than `LONGEST` words is cut
    at ends of sentences. Rows that are not English are left out: fewer than three words, or less than half of it words
    (code, doctests, grammars, tables). With Python 3.11 there are 17,030 rows, which a vocabulary of 1,000 trained on
    them makes 560,000 tokens (532,000 in the first 64 of each row).
    Raises: Problem where this Python comes without the source of its library.
    """
    return list(_documents())


@functools.lru_cache(maxsize=1)
def _documents():
    from pydoc_data.topics import topics

    found = {}                                      # text -> the first module that says it
    for module, docstring in [("topics", topics[name]) for name in sorted(topics)] + list(_docstrings()):
        for row in rows(docstring):
            found.setdefault(row, module)
    return tuple(Document(text, module) for text, module in found.items())


def _docstrings():
    """(module, docstring) of every module, class and function of the standard library, by name of the file."""
    library = Path(sysconfig.get_path("stdlib"))
    parsed = 0
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        package = sorted((library / name).rglob("*.py"), key=Path.as_posix)
        for path in [p for p in (library / f"{name}.py", *package) if p.is_file()]:
            parts = path.relative_to(library).with_suffix("").parts
            if not LEFT_OUT.isdisjoint(parts):
                continue
            with warnings.catch_warnings():         # the compiler's, about other people's code
                warnings.simplefilter("ignore")
                tree = ast.parse(path.read_bytes())
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
            yield from ((module, ast.get_docstring(node) or "") for node in nodes)
            parsed += 1
    if parsed == 0:
        raise Problem(f"need the source of Python's standard library for the corpus stdlib; found no .py file of it "
                      f"in {library}: use another corpus")


def rows(docstring):
    """The English paragraphs of a docstring, each in one line.

    >>> rows("Titles\\n******\\n\\nA  paragraph has\\nthree words.\\n\\n   >>> f(1)\\n   1")
    ['A paragraph has three words.']
    """
    lines = [line if re.search(r"\w", line) else "" for line in docstring.splitlines()]         # rulers part, too
    paragraphs = [" ".join(block.split(">>>")[0].split()) for block in re.split(r"\n\n+", "\n".join(lines))]
    return [row for paragraph in paragraphs for row in _cut(paragraph) if _english(row)]


def _cut(paragraph):
    """The paragraph as runs of whole sentences, each as long as `LONGEST` words allow."""
    row = []
    for sentence in re.split(r"(?<=[.!?:]) (?![a-z])", paragraph):
        words = sentence.split()
        if row and len(row) + len(words) > LONGEST:
            yield " ".join(row)
            row = []
        row += words
    yield " ".join(row)


def _english(row):
    words = row.split()
    plain = sum(WORD.fullmatch(word) is not None for word in words)
    return plain >= 3 and 2 * plain >= len(words)
