"""The corpus that is on every machine: English, in one line a row, in a fixed order, without running any module."""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data import stdlib
from tinydistill.errors import Problem


@pytest.fixture(scope="module")
def documents():
    return stdlib.documents()


def test_there_is_enough_text(documents):
    assert 13_000 < len(documents) < 25_000                     # 15,756 to 17,030 on Pythons 3.10 to 3.13
    assert 200_000 < sum(len(document.text.split()) for document in documents) < 400_000


def test_every_row_is_one_clean_line_and_none_comes_twice(documents):
    texts = [document.text for document in documents]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert text == " ".join(text.split())
        assert len(text.split()) >= 3
        assert ">>>" not in text


def test_rows_are_english(documents):
    words = [word for document in documents for word in document.text.lower().split()]
    share = sum(word in {"the", "of", "a", "to", "is", "and", "in"} for word in words) / len(words)
    assert share > 0.17                                         # measured 0.206; the source files as a whole 0.102


def test_modules_are_named_and_the_left_out_are_absent(documents):
    modules = {document.module for document in documents}
    assert {"topics", "argparse", "asyncio.locks", "email", "json.decoder", "logging", "unittest.mock"} <= modules
    for module in modules - {"topics"}:
        parts = module.split(".")
        assert parts[0] in sys.stdlib_module_names and "__init__" not in parts
        assert stdlib.LEFT_OUT.isdisjoint(parts), module


def test_documented_text_is_found(documents):
    assert stdlib.Document("A collection of string constants.", "string") in documents
    assert any(d.module == "topics" and d.text.startswith("The \"if\" statement is used for conditional execution")
               for d in documents)


def test_another_process_finds_the_same_and_imports_nothing(documents):
    script = textwrap.dedent("""
        import hashlib, sys
        from tinydistill.data.stdlib import documents
        found = documents()
        assert not {"antigravity", "tkinter", "turtle", "asyncio", "unittest"} & set(sys.modules), sys.modules
        print(hashlib.sha256(repr(found).encode()).hexdigest())
    """)
    ran = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": "7"}, check=True,
                         capture_output=True, text=True)
    assert ran.stdout.strip() == hashlib.sha256(repr(documents).encode()).hexdigest()


def test_the_list_belongs_to_the_caller(documents):
    stdlib.documents().clear()
    assert stdlib.documents() == documents


def test_rows_of_a_docstring():
    assert stdlib.rows("""Return the sum.

        The arguments are    added
        from left to right.

            >>> add(1, 2)
            3

        Then the example shows how: >>> add(2, 2)

        ------------------
        stmt ::= (target_list "=")+ (starred_expression | yield_expression)

        Two words

        x1 = 1 : y2 four words are here

        Don't re-use sub-classes

        More about it
        =============
        last words of it""") == ["Return the sum.", "The arguments are added from left to right.",
                                 "Then the example shows how:", "Don't re-use sub-classes",
                                 "More about it", "last words of it"]


def test_a_long_paragraph_is_cut_at_ends_of_sentences():
    first, second, third = ("One " * 19 + "end.", "Two " * 9 + "end.", "Three " * 40 + "end.")
    assert stdlib.rows(f"{first} {second} {third}") == [f"{first} {second}", third.strip()]
    assert stdlib.rows(f"{first} e.g. {first}") == [f"{first} e.g.", first]
    assert stdlib.rows(f"{first} i.e. lower case is no {second}") == [f"{first} i.e. lower case is no {second}"]


@given(st.lists(st.sampled_from(["Word", "word", "end.", "e.g.", "Why?", "*", "x:"]), max_size=120))
def test_cutting_loses_no_word(words):
    pieces = list(stdlib._cut(" ".join(words)))
    assert " ".join(pieces).split() == words
    for piece, following in zip(pieces, pieces[1:]):
        assert piece[-1] in ".!?:" and not following[0].islower()
    assert all(len(piece.split()) <= stdlib.LONGEST or len(list(re.finditer("[.!?:] [^a-z]", piece))) == 0
               for piece in pieces)


def test_a_python_without_sources_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(Problem, match=r"need the source of Python's standard library for the corpus stdlib; found no "
                                      r"\.py file of it in .*: use another corpus"):
        list(stdlib._docstrings())
