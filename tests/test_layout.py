"""The house stands as its plan says: floors, packages, what is imported where, and how deep a reader has to step."""

import ast
import configparser
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

import tinydistill
from tinydistill import Tensor, ops

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tinydistill"
FLOORS = {                                          # of every file and folder; tenths are steps on one floor
    9.3: "__main__", 9.2: "cli", 9.1: "commands", 9.05: "conformance", 9.0: "report bench profile trace conformance_losses conformance_pieces",
    8.0: "training",
    7.0: "methods",
    6.1: "tasks", 6.05: "hub", 6.0: "data", 5.9: "hub_names",
    5.2: "architectures", 5.1: "compress", 5.0: "losses students",
    4.0: "nn",
    3.1: "__init__", 3.0: "ops",
    2.0: "tensor features",
    1.0: "kernels",
    0.1: "backend safe_files", 0.0: "errors source",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
STRANGERS = {("compress", "losses")}                # an architecture never sees a loss
HEAVY = set("scipy torch transformers tokenizers datasets matplotlib safetensors tqdm cupy pandas".split())


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def relative(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """(line, dotted name) of everything a file imports, inside functions too; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def part(dotted):
    """Which file or folder of the package `tinydistill.a.b` lies in; what __init__ offers lies in __init__."""
    name = (dotted.split(".") + ["__init__"])[1]
    return name if name in FLOOR or (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists() else "__init__"


# ---------------------------------------------------------------- floors

def test_every_file_has_a_floor():
    there = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert there <= FLOOR.keys(), f"give these a floor: {sorted(there - FLOOR.keys())}"


@pytest.mark.parametrize("path", python_files("tinydistill"), ids=relative)
def test_imports_go_down_only(path):
    inside = path.relative_to(PACKAGE).parts
    own = inside[0].removesuffix(".py")
    for line, dotted in imported(path):
        if dotted.partition(".")[0] == "tinydistill" and (other := part(dotted)) != own:
            assert FLOOR[other] < FLOOR[own] and (own, other) not in STRANGERS, \
                f"{relative(path)}:{line}: {own} (floor {FLOOR[own]}) imports {other} (floor {FLOOR[other]})"


def test_the_equations_as_printed_know_nothing_of_the_package():
    for path in python_files("reference"):
        assert not [name for _, name in imported(path) if name.partition(".")[0] == "tinydistill"], relative(path)


def test_pytorch_is_imported_by_the_oracles_only():
    """And by what checks somebody's PyTorch: an adapter, which imports it when it is called, and examples."""
    for path in python_files("tinydistill", "reference", "tests"):
        names = {name.partition(".")[0] for _, name in imported(path)}
        if not {"oracle", "examples", "torch_.py"} & set(path.parts):
            assert not names & {"torch", "transformers"}, relative(path)


def test_an_import_that_goes_up_would_be_noticed(tmp_path, monkeypatch):
    """The test of these tests: an import hidden in a function of a kernel file."""
    file = PACKAGE / "kernels" / "softmax.py"
    sources = {file: "def f():\n    from tinydistill import ops\n    from tinydistill.backend import xp_of\n"}
    monkeypatch.setattr(Path, "read_text", lambda self, **_: sources[self])
    assert [(line, part(name)) for line, name in imported(file)] == [(2, "ops"), (3, "backend")]
    with pytest.raises(AssertionError, match=r"softmax\.py:2: kernels \(floor 1\.0\) imports ops \(floor 3\.0\)"):
        test_imports_go_down_only(file)


# ---------------------------------------------------------------- what is not there

def test_nothing_executes_data():
    """No pickle, no eval or exec, no allow_pickle, no shell: what a file holds is never run."""
    for path in python_files("tinydistill", "reference"):
        modules = {name.partition(".")[0] for _, name in imported(path)}
        assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, relative(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                assert called not in ("eval", "exec", "compile", "__import__"), f"{relative(path)}:{node.lineno}"
                for keyword in node.keywords:
                    is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    assert keyword.arg not in ("allow_pickle", "shell") or is_false, f"{relative(path)}:{node.lineno}"


def test_importing_the_package_loads_numpy_and_nothing_else_heavy():
    code = "import sys, tinydistill; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert {"tinydistill", "numpy"} <= loaded and not loaded & HEAVY, sorted(loaded & HEAVY)


def test_files_stay_short():
    """A file of more than 300 lines has two responsibilities; tables of data are named here."""
    tables = {"tinydistill/students/configs.py"}
    long = {relative(path): lines for path in python_files("tinydistill", "reference", "tests")
            if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300 and relative(path) not in tables}
    assert not long


# ---------------------------------------------------------------- what is there

def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    folders = [path.parent.relative_to(ROOT).parts for place in (PACKAGE, ROOT / "reference")
               for path in place.rglob("__init__.py")]
    there = {".".join(("tinydistill_reference" if first == "reference" else first, *rest)) for first, *rest in folders}
    assert set(listed) == there and len(listed) == len(set(listed))


def modules():
    names = [info.name for info in pkgutil.walk_packages([str(PACKAGE)], "tinydistill.")]
    return ["tinydistill", *(name for name in names if name != "tinydistill.__main__")]


ITS_OWN_DEFINITION = set("""add subtract multiply divide negative absolute exp log sqrt tanh relu sum reshape transpose
    concatenate""".split())
PROTOCOL = {"arguments", "run", "text"}             # of every command: explained once, in commands/__init__.py


@pytest.mark.parametrize("name", modules())
def test_everything_public_says_what_it_is(name):
    """By a docstring; a module's own stands for the function it is named after, and for its twin and its pullback."""
    module, stem = importlib.import_module(name), name.rpartition(".")[2]
    assert module.__doc__, name
    known = {stem} | ITS_OWN_DEFINITION | (PROTOCOL if ".commands." in name else set())
    for label, thing in vars(module).items():
        mine = (inspect.isfunction(thing) or inspect.isclass(thing)) and thing.__module__ == name
        definition = label.removesuffix("_numpy").removesuffix("_pullback")
        told = definition in known or (definition != label and definition in vars(module))
        assert not mine or label.startswith("_") or told or inspect.getdoc(thing), f"{name}.{label} has no docstring"


def test_few_frames_lie_between_softmax_and_its_array_expression(monkeypatch, capsys):
    """What a reader steps through with a debugger, counted inside np.exp."""
    stacks, exp = [], np.exp

    def recording(*arguments, **settings):
        stacks.append([frame.name for frame in traceback.extract_stack()])
        return exp(*arguments, **settings)

    monkeypatch.setattr(np, "exp", recording)
    ops.softmax(Tensor(np.array([[1.0, 2.0]]), requires_grad=True))
    stack, = stacks
    ours = stack[stack.index("test_few_frames_lie_between_softmax_and_its_array_expression") + 1:-1]
    with capsys.disabled():
        print(f"\n{len(ours)} frames between ops.softmax and its array expression: {' > '.join(ours)}")
    assert len(ours) <= 3 and ours[-1] == "softmax_numpy"


def test_the_version_is_the_one_in_setup_cfg():
    found = re.search(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)
    assert found and tinydistill.__version__ == found.group(1)
