"""Finding what a person wants to have checked."""

import importlib
import importlib.util
import sys
from pathlib import Path


class TargetError(ValueError):
    """What was named cannot be checked: it is not there, or does not fit the equation."""


def found(target):
    """The function that a target names: "package.module:name", "folder/file.py:name", or the function itself."""
    thing = _named(target) if isinstance(target, str) else target
    if not callable(thing):
        raise TargetError(f"need a function, got {target!r}")
    return thing


def _named(target):
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise TargetError(f'need "package.module:function" or "file.py:function", got {target!r}')
    thing = _file(Path(place)) if place.endswith(".py") else _module(place)
    for part in name.split("."):
        if not hasattr(thing, part):
            raise TargetError(f"{place} has no {name}")
        thing = getattr(thing, part)
    return thing


def _file(path):
    if not path.is_file():
        raise TargetError(f"no file {path}")
    _can_import_from(path.parent)
    name = f"target_{path.stem}"                    # a file may be called as a module of Python is
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _module(name):
    _can_import_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name and (name + ".").startswith(problem.name + "."):
            raise TargetError(f"no module {problem.name}, neither installed nor in {Path.cwd()}") from None
        raise                                       # the module is there, and one that it imports is not


def _can_import_from(folder):
    """After everything else: a folder must not hide what is installed."""
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))


def library(name, package):
    """An imported library that an adapter works with."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise TargetError(f"{name} is not installed: pip install {package}") from None
