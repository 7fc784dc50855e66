"""The gradient of a table look-up y = table[ids]: every time a row was read adds to that row, repetitions included."""

import numpy as np

from tinydistill.backend import add_at, xp_of


def sum_rows(rows, values):
    """(distinct rows ascending, the sum of `values` over each): rows (N,), values (N, D)."""
    xp = xp_of(values)
    distinct, place = xp.unique(rows, return_inverse=True)
    sums = xp.zeros((len(distinct), values.shape[1]), values.dtype)
    add_at(sums, place.reshape(-1), values)
    return distinct, sums


# ---------------------------------------------------------------- fused NumPy

def sum_rows_numpy(rows, values):
    """The same after a stable sort, where equal rows are neighbours: one pass, and the order of every sum is fixed."""
    if len(rows) == 0:
        return rows, values
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(values[order], starts, axis=0)
