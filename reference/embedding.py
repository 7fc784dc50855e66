"""Reading rows of a table by number.

    y_n = E[ids_n]              dE[v] = sum over all n with ids_n = v of dy_n

Shapes: table E (V, D), ids (...,) of 0 to V - 1, y (..., D).

Traps
  - a row that is read several times gets the sum: dE[ids] += dy keeps the last one only
  - NumPy takes -1 for the last row, and so hides a wrong id
  - the row of the padding is a row like others: torch.nn.Embedding's padding_idx gives it no gradient
"""

import numpy as np

from tinydistill_reference.conventions import need


def embedding(table, ids):
    """y."""
    need(((ids >= 0) & (ids < len(table))).all(), f"ids from 0 to {len(table) - 1}, got {ids.min()} to {ids.max()}")
    return np.array([table[i] for i in ids.ravel()]).reshape(*ids.shape, table.shape[1])


def embedding_gradient(upstream, table, ids):
    """dE[v] = sum of dy_n over all n with ids_n = v."""
    dtable = np.zeros_like(table)
    for n in np.ndindex(ids.shape):
        dtable[ids[n]] += upstream[n]
    return {"table": dtable}
