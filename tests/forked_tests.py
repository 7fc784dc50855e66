"""Tests run over and over in forked children: a child costs 0.2 s, not the 3 s that importing torch and pytest takes.

The parent imports everything that the tests import, but nothing of the tree under test. A Worker has a copy of that
tree, puts a mutant into it, forks, and the child runs pytest there. What `scripts/mutate` stands on.
"""

import ast
import collections
import configparser
import contextlib
import functools
import gc
import importlib.util
import json
import os
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "runs")      # of a worker's copy of the tree


class Unfit(Exception):
    """The tests cannot judge mutants."""


def preimport(tree, tests):
    """Import what the tests import, but nothing of the tree: children inherit it instead of paying for it each."""
    bases, seen, foreign = (tree, tree / "tests"), set(), {"pytest"}
    queue = [tree / "tests/conftest.py", *(tree / test for test in tests)]
    while queue:
        file = queue.pop()
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            is_from = isinstance(node, ast.ImportFrom)
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                [node.module] if is_from and node.module and not node.level else []
            for module in modules:
                names = [module, *(f"{module}.{a.name}" for a in node.names)] if is_from else [module]
                places = [base / name.replace(".", "/") for base in bases for name in names]
                top = module.split(".")[0]
                if any((base / top).with_suffix(end).exists() for base in bases for end in ("", ".py")):
                    queue += [f for place in places for f in (place.with_suffix(".py"), place / "__init__.py")]
                else:
                    foreign.add(module)
    for module in sorted(foreign):
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    gc.collect()
    gc.freeze()                                     # the children share these pages


def limit_child(memory=8 << 30, seconds=1800):
    """A mutant that allocates without end gets a MemoryError; one that outlives a killed parent ends by itself."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))


class Watch:
    """A pytest plugin: what killed before runs first, then what is quick; hypothesis does not shrink what it finds."""

    def __init__(self, ranks):
        self.ranks, self.failed, self.seconds = ranks, None, collections.Counter()

    def pytest_collection(self):
        if hypothesis := sys.modules.get("hypothesis"):
            phases = [phase for phase in hypothesis.Phase if phase.name in ("explicit", "generate")]
            hypothesis.settings.register_profile("mutate", hypothesis.settings(), phases=phases)
            hypothesis.settings.load_profile("mutate")

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self.ranks.get(item.nodeid, 0))

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid


class Worker:
    """A copy of the tree, in which one child at a time runs tests."""

    noted = {}                                      # what a kind of worker notes besides
    KEPT = ()                                       # modules that the children inherit though they are of the tree

    def __init__(self, root, place):
        self.root, self.place, self.tree, self.pid = root, place, place / "tree", None
        shutil.copytree(root, self.tree, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        config = configparser.ConfigParser()
        config.read(root / "setup.cfg", encoding="utf-8")
        for line in config.get("options", "package_dir", fallback="").split("\n"):
            name, _, folder = line.replace(" ", "").partition("=")          # a package whose folder has another name
            if name and folder and not (self.tree / name).exists():
                (self.tree / name).symlink_to(folder)

    def start(self, tests, ranks, mutant=None):
        self.mutant, self.began = mutant, time.monotonic()
        if mutant:
            file = self.tree / mutant.path
            self.original = file.read_bytes()
            file.write_text(mutant.source, encoding="utf-8", newline="")
            with contextlib.suppress(FileNotFoundError):            # two writes in one second look alike to Python
                os.remove(importlib.util.cache_from_source(file))
        loaded = set(sys.modules)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os._exit(self.run(tests, ranks, loaded))
            except BaseException:
                (self.place / "log").write_text(traceback.format_exc())
                os._exit(70)

    def run(self, tests, ranks, loaded):
        """In the child: the tests on the copy and on nothing but the copy; returns their exit code."""
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(self.place / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        os.chdir(self.tree)
        limit_child()
        sys.dont_write_bytecode = self.mutant is not None
        for name in loaded - {"__main__"}:
            if not name.startswith(self.KEPT) and self.is_original(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]               # such as this one, if a test wants it
        loaded &= set(sys.modules)
        ours = [str(self.tree), str(self.tree / "tests")]
        sys.path[:] = ours + [p for p in sys.path if not self.is_original(p)]
        os.environ["PYTHONPATH"] = os.pathsep.join(ours)            # for what the tests start themselves
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"          # plugins that happen to be installed: 0.1 s
        code, failed, seconds = self.judge(tests, ranks)
        loaded.add("__mp_main__")                   # another name of this process's own program, by multiprocessing
        files = [getattr(m, "__file__", None) for name, m in list(sys.modules.items()) if name not in loaded]
        note = self.noted | {"failed": failed, "seconds": seconds, "files": [os.path.realpath(f) for f in files if f],
                "outside": [f for f in files if f and self.is_original(f)]}
        (self.place / "note").write_text(json.dumps(note))
        return code

    def judge(self, tests, ranks):
        """(exit code, the test that failed, seconds of each) by pytest."""
        import pytest
        watch = Watch(ranks)
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=native" if self.mutant else "--tb=short",
                            f"--basetemp={self.place / 'tmp'}", f"--rootdir={self.tree}", *tests], plugins=[watch])
        return code, watch.failed, watch.seconds

    def is_original(self, path):
        return bool(path) and "site-packages" not in path and Path(path).resolve().is_relative_to(self.root)

    def poll(self, seconds):
        """None while the child runs within its time, then its exit code or "timeout", and what it noted."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0 and time.monotonic() - self.began < seconds:
            return None
        self.stop(reaped=pid != 0)
        note = self.place / "note"
        noted = json.loads(note.read_text()) if pid and note.exists() else {"failed": None}
        note.unlink(missing_ok=True)
        return os.waitstatus_to_exitcode(status) if pid else "timeout", noted

    def stop(self, reaped=False):
        """End the child and all that it started, and put the file back."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            if not reaped:
                os.waitpid(self.pid, 0)
            self.pid = None
            if self.mutant:
                (self.tree / self.mutant.path).write_bytes(self.original)

    def passes(self, tests, ranks, complaint):
        """Run the tests unmutated, which must pass; returns the seconds they took and what they noted."""
        self.start(tests, ranks)
        while (outcome := self.poll(float("inf"))) is None:
            time.sleep(0.005)
        if outcome[0] != 0:
            raise Unfit(f"{complaint}:\n{(self.place / 'log').read_text(errors='replace')[-3000:]}")
        return time.monotonic() - self.began, outcome[1]


class VectorWorker(Worker):
    """Runs the checks of vector_checks.py, without pytest. The kit is inherited, its vectors read once.

    The unmutated run notes which functions each check calls; a mutant is shown to those that call its function.
    """

    KEPT = ("tinydistill_reference",)

    def passes(self, tests, ranks, complaint):
        took, noted = super().passes(tests, ranks, complaint)
        self.calls = noted["calls"]                 # {check: ["path:first line of a function", ...]}
        return took, noted

    def judge(self, tests, ranks):
        from vector_checks import CHECKS
        chosen, seconds, self.noted = self.concerned(CHECKS), collections.Counter(), {"calls": {}}
        for name in sorted(chosen, key=lambda name: ranks.get(name, 0)):
            began, called = time.monotonic(), set()
            if not self.mutant:
                sys.setprofile(lambda frame, event, _: event == "call" and called.add(frame.f_code))
            try:
                CHECKS[name]()
            except Exception:
                sys.setprofile(None)
                traceback.print_exc()
                return 1, name, seconds
            sys.setprofile(None)
            seconds[name] = time.monotonic() - began
            self.noted["calls"][name] = [f"{os.path.relpath(os.path.realpath(code.co_filename), self.tree)}:"
                                         f"{code.co_firstlineno}" for code in called if "tinydistill" in code.co_filename]
        return 0, None, seconds

    def concerned(self, checks):
        """The names of the checks that call the function of the mutant; of all where it is in none."""
        function = self.mutant and innermost_function(self.original, self.mutant.line)
        if not function:
            return list(checks)
        return [name for name in checks if f"{self.mutant.path}:{function}" in self.calls.get(name, ())]


def innermost_function(source, line):
    """The line at which the code of the innermost function around a line begins; None outside of all."""
    functions = [node for node in ast.walk(ast.parse(source))
                 if isinstance(node, (ast.FunctionDef, ast.Lambda)) and node.lineno <= line <= node.end_lineno]
    if not functions:
        return None
    inner = max(functions, key=lambda node: (node.lineno, node.col_offset))
    return min([inner.lineno, *(d.lineno for d in getattr(inner, "decorator_list", ()))])


def read_vectors():
    """Import the kit and read its vectors, for the children to inherit."""
    from tinydistill_reference import report, runner, store     # noqa: F401: for the children
    from tinydistill_reference.equation import equations
    store.load = functools.cache(store.load)
    for name in equations():
        store.load(name)
    gc.collect()
    gc.freeze()
