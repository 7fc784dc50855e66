"""Losses: Features in, one scalar out. One paper a file; no loss ever sees a model.

`TERMS` is every term by name; `tinydistill losses` prints it.
"""

import importlib
import pkgutil

from tinydistill.losses.term import Term


def _collect():
    """Every Term that a file of this folder defines, file by file."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {term.name: term for module in modules for term in vars(module).values() if isinstance(term, Term)}


TERMS = _collect()
