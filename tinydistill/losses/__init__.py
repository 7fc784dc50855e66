"""Losses: Features in, one scalar out. One paper a file; no loss ever sees a model.

`TERMS` is every term by name; `tinydistill losses` prints it.
"""

from tinydistill.losses import hard_labels, minilm
from tinydistill.losses.term import Term

TERMS = {term.name: term for module in (hard_labels, minilm) for term in vars(module).values()
         if isinstance(term, Term)}
