"""scripts/mutate: the mistakes it makes, and whether it tells tested code from untested code."""

import configparser
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mutants import mutants

MUTATE = Path(__file__).resolve().parent.parent / "scripts/mutate"


# ---------------------------------------------------------------- the mistakes

def after(source):
    """[(kind, mutated line)] of a one-line source, its removal left aside."""
    return [(m.kind, m.after) for m in mutants("m.py", source + "\n") if m.kind != "line"]


@pytest.mark.parametrize("source, expected", [
    ("y = a + b", [("operator", "y = a - b"), ("term", "y = b"), ("term", "y = a")]),
    ("y = a - b", [("operator", "y = a + b"), ("term", "y = a")]),
    ("y = a @ b", []),
    ("y = a * (b + c)", [("operator", "y = a / (b + c)"), ("term", "y = (b + c)"), ("term", "y = a"),
                         ("operator", "y = a * (b - c)"), ("term", "y = a * (c)"), ("term", "y = a * (b)")]),
    ("y = a ** 2", [("operator", "y = a * 2"), ("term", "y = a"), ("constant", "y = a ** 3")]),
    ("y += x", [("operator", "y -= x")]),
    ("y = -x", [("sign", "y = x")]),
    ("y = not x", [("operator", "y =  x")]),
    ("y = a < b", [("operator", "y = a <= b"), ("operator", "y = a >= b")]),
    ("y = a is not b", [("operator", "y = a is b")]),
    ("y = a not in b", [("operator", "y = a in b")]),
    ("y = a and b", [("operator", "y = a or b"), ("term", "y = b"), ("term", "y = a")]),
    ("y = a or b or c", [("operator", "y = a and b or c"), ("operator", "y = a or b and c"), ("term", "y = b or c"),
                         ("term", "y = a or c"), ("term", "y = a or b")]),
    ("y = f(x) if x else z", [("operator", "y = f(x) if not (x) else z")]),
    ("y = x[0]", [("constant", "y = x[1]")]),
    ("y = 0.5", [("constant", "y = 1.5")]),
    ("y = True", [("constant", "y = False")]),
    ("y = x.sum(axis=-1, keepdims=True)", [("axis", "y = x.sum(axis=-2, keepdims=True)"),
                                           ("keepdims", "y = x.sum(axis=-1, keepdims=False)")]),
    ("y = x.sum(axis=(0, 1))", [("axis", "y = x.sum(axis=(0,))")]),
    ("y = x.sum(axis=None)", [("axis", "y = x.sum(axis=0)")]),
    ("y = x.sum(axis=axis)", []),
    ("y = 'ü' + f(x, -1)", [("sign", "y = 'ü' + f(x, 1)"), ("constant", "y = 'ü' + f(x, -2)")]),
    ("y = f'{x + 1}'", []),
    ("def f(x: int[3] = 4) -> int[5]: return x", [("constant", "def f(x: int[3] = 5) -> int[5]: return x")]),
])
def test_mistakes(source, expected):
    assert after(source) == expected


def test_lines_are_removed_but_for_docstrings_imports_fields_and_dunders():
    source = textwrap.dedent('''
        """Module: 1 + 1."""
        import a.b
        __all__ = ["f"]
        class Point:
            """A field without a value is no statement to remove."""
            x: int
            y: int = 3
        def f(x):
            if x is None:
                raise ValueError("need 2 + 2", 3)
            g(x); return (x
                          )  # what it is
    ''')
    removed = [(m.line, m.after) for m in mutants("m.py", source) if m.kind == "line"]
    assert removed == [(8, "pass  # y: int = 3"), (11, 'pass  # raise ValueError("need 2 + 2", 3)'),
                       (12, "pass; return (x"), (12, "g(x); pass  # return (x  # what it is")]
    assert [m.after for m in mutants("m.py", source) if m.kind == "constant"] == ["y: int = 4"]


def test_a_mutant_differs_in_its_line_only_and_operators_in_comments_are_no_operators():
    source = "# Größe\ny = (a  # one - two\n     + b)\n"
    first, *rest = mutants("m.py", source)
    assert (first.kind, first.line, first.before) == ("line", 2, "y = (a  # one - two + b)")
    assert [(m.line, m.before, m.after) for m in rest] == [
        (2, "y = (a  # one - two + b)", "y = (b)"), (3, "+ b)", "- b)"), (3, "+ b)", ")")]
    assert rest[1].source == source.replace("+", "-")


# ---------------------------------------------------------------- the command

@pytest.fixture
def tree(tmp_path):
    """A package with a tested and an untested function, and its tests."""
    files = {
        "package/__init__.py": "",
        "package/sums.py": """
            def weigh(a, b):
                \"\"\"2 * a + b.\"\"\"
                return 2 * a + b


            def forgotten(a):
                return a - 1
            """,
        "tests/test_sums.py": """
            import json
            from package import sums
            from package.sums import weigh

            def test_sum():
                assert weigh(3, 5) == 11 and json and sums.forgotten
            """,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text).lstrip())
    return tmp_path


def run(tree, *arguments, code=0):
    """stdout of scripts/mutate (parsed where it is JSON) and its stderr; its exit code must be `code`."""
    command = [sys.executable, MUTATE, "--root", tree, *arguments]
    done = subprocess.run(command, cwd=tree, text=True, capture_output=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if "--json" in arguments and code < 2 and done.stdout else done.stdout, done.stderr


def snapshot(tree):
    return {file: file.read_bytes() for file in tree.rglob("*") if file.is_file()}


def test_survivors_are_found_in_untested_code_and_only_there(tree):
    before = snapshot(tree)
    found, _ = run(tree, "package", "--json", "--at-least", "0.6")
    assert [(m["line"], m["after"]) for m in found["survived"]] == [
        (7, "pass  # return a - 1"), (7, "return a + 1"), (7, "return a"), (7, "return a - 2")]
    assert (found["mutants"], found["killed"], found["timeouts"], found["share"]) == (12, 8, 0, 8 / 12)
    assert snapshot(tree) == before


def test_explained_survivors_do_not_count_and_stale_explanations_are_named(tree):
    (tree / "package/sums.py").write_text((tree / "package/sums.py").read_text().replace("a - 1", "a - 1  # one less"))
    explanations = tree / "equivalent.txt"
    explanations.write_text("# nothing calls forgotten\n"
                            "package/sums.py: pass  # return a - 1  # one less: never called\n"
                            "package/sums.py: return a + 1: never called\n"
                            "package/sums.py: return 2 * a - b: it is tested\n"
                            "package/sums.py: return nothing like it: the line is gone\n")
    text, errors = run(tree, "package/sums.py", "--equivalent", "equivalent.txt", code=1)
    assert [line for line in text.splitlines() if not line.startswith("    ")] == [
        "explained package/sums.py:7  line  never called", "explained package/sums.py:7  operator  never called",
        "survived package/sums.py:7  term", "survived package/sums.py:7  constant",
        "stale: no survivor is explained by `package/sums.py: return 2 * a - b`",
        "stale: no survivor is explained by `package/sums.py: return nothing like it`", text.splitlines()[-1]]
    assert "survived package/sums.py:7  constant\n    - return a - 1  # one less\n    + return a - 2" in text
    assert not errors
    assert text.splitlines()[-1].startswith("killed 8 of 10 mutants = 80.0% (0 by time-out; 2 more explained as equiv")


def test_tests_are_found_by_name_and_where_they_are_declared(tree):
    """A file's own tests and what belongs to them, but not those of its neighbour; the folder's for one without."""
    for name in ("sums_of_squares", "differences", "products"):
        (tree / f"package/{name}.py").write_text("def two():\n    return 2\n")
    for name in ("sums_again", "sums_of_squares", "package", "package_in_use", "declared"):
        (tree / f"tests/test_{name}.py").write_text(
            "from package import differences, products, sums, sums_of_squares as squares\n"
            "def test():\n    assert differences.two() == products.two() == squares.two() == 2 and sums.weigh(3, 5)\n")
    (tree / "setup.cfg").write_text(
        "[tool:mutate]\npackage/differences.py = tests/test_declared.py tests/test_sums.py\n")
    (tree / "tests/equivalent_mutants.txt").write_text("package/sums.py: return nothing like it: the line is gone\n")
    found, _ = run(tree, "package", "--json", "--at-least", "0", "--sample", "3")
    assert [(file["path"], [t[11:-3] for t in file["tests"]]) for file in found["files"]] == [
        ("package/differences.py", ["declared", "sums"]), ("package/products.py", ["package", "package_in_use"]),
        ("package/sums.py", ["sums", "sums_again"]), ("package/sums_of_squares.py", ["sums_of_squares"])]
    assert [sum(file[count] for file in found["files"]) for count in ("mutants", "killed", "explained")] == [
        3, found["killed"], 0]
    assert found["stale"] == ["package/sums.py: return nothing like it"]


def test_every_declaration_and_every_explanation_is_about_files_that_there_are():
    root = MUTATE.parent.parent
    config = configparser.ConfigParser(delimiters="=")
    config.read(root / "setup.cfg", encoding="utf-8")
    for path, tests in config.items("tool:mutate"):
        assert all((root / file).is_file() for file in [path, *tests.split()]), f"{path} = {tests}"
    for line in (root / "tests/equivalent_mutants.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            path, _, rest = line.partition(": ")
            after = [m.after for m in mutants(path, (root / path).read_text(encoding="utf-8"))]
            assert any(line.startswith(rest.rpartition(": ")[0]) for line in after), f"no mutant of {path}: `{rest}`"


def test_a_sample_is_drawn_by_its_seed_and_calls_nothing_stale_that_it_did_not_run(tree):
    (tree / "equivalent.txt").write_text("package/sums.py: return a + 1: never called\n")
    draw = [run(tree, "package", "--sample", "2", "--seed", seed, "--json", "--at-least", "0",
                "--equivalent", "equivalent.txt")[0] for seed in "112"]
    for found in draw:
        del found["seconds"]
        assert found["mutants"] == 2 and not found["stale"]
    assert draw[0] == draw[1] != draw[2]


def test_endless_mutants_are_killed_by_time_and_leave_no_process_behind(tree):
    (tree / "package/sums.py").write_text(
        "def weigh(a, b):\n    while a > 0:\n        a -= 1\n        b += 2\n    return b\n")
    (tree / "tests/test_sums.py").write_text(
        "import os, pathlib\nfrom package.sums import weigh\n\ndef test_sum():\n"
        f"    pathlib.Path({str(tree)!r}, f'pid-{{os.getpid()}}').touch()\n    assert weigh(3, 5) == 11\n")
    found, _ = run(tree, "package", "--json", "--grace", "0.5")
    assert found["share"] == 1.0 and found["timeouts"] == 2 and not found["survived"]      # a stays, a += 1
    for file in tree.glob("pid-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name[4:]), 0)


@pytest.mark.parametrize("change, complaint", [
    ({"tests/test_sums.py": "from package.sums import weigh\ndef test_sum(): assert weigh(3, 5) == 12\n"},
     "the tests fail without any mutant"),
    ({"tests/test_sums.py": "import package\ndef test_sum(): assert package\n"}, "never imports package/sums.py"),
    ({"tests/conftest.py": "import sys\nsys.path.insert(0, {root!r})\n"}, "instead of its copy"),
    ({"tests/test_sums.py": "import time\nfrom package.sums import weigh\nseen = []\n"
      "def test_first(): time.sleep(0.1); seen.append(1)\ndef test_then(): assert seen and weigh(3, 5) == 11\n"},
     "the tests depend on their order"),
])
def test_tests_that_cannot_judge_are_refused(tree, change, complaint):
    for name, text in change.items():
        (tree / name).write_text(text.format(root=str(tree)))
    assert complaint in run(tree, "package/sums.py", code=1)[1]


def test_wrong_usage_and_nothing_to_do(tree):
    (tree / "package/other.py").write_text("def f(x):\n    return x\n")
    assert "no tests/test_other.py or tests/test_package.py for package/other.py" in run(tree, "package", code=2)[1]
    assert "need Python files inside" in run(tree, "package/missing.py", code=2)[1]
    assert "nothing to mutate" in run(tree, "package/__init__.py", code=3)[1]
    found, _ = run(tree, "package/other.py", "--tests", "tests/test_sums.py", code=1)
    assert found == ""


def test_a_package_whose_folder_has_another_name_is_mutated_in_the_copy_too(tree):
    (tree / "setup.cfg").write_text("[options]\npackage_dir =\n    real_name = folder\n")
    (tree / "folder").mkdir()
    (tree / "folder/square.py").write_text("def square(x):\n    return x * x\n")
    (tree / "tests/test_square.py").write_text(
        "from real_name.square import square\ndef test(): assert square(3) == 9\n")
    found, _ = run(tree, "folder", "--json")
    assert (found["killed"], found["survived"]) == (3, [])


def test_a_signal_ends_it_and_cleans_up(tree, tmp_path_factory):
    place = tmp_path_factory.mktemp("temporary")
    (tree / "tests/test_sums.py").write_text(
        "import pathlib, time\nfrom package import sums\n\ndef test():\n"
        f"    pathlib.Path({str(tree)!r}, 'running').touch()\n    time.sleep(60)\n")
    process = subprocess.Popen([sys.executable, MUTATE, "--root", tree, "package"], cwd=tree,
                               env=os.environ | {"TMPDIR": str(place)})
    while not (tree / "running").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 143 and not list(place.iterdir())
