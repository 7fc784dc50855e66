"""The gradient of a table look-up y = table[ids]: every time a row was read adds to that row, repetitions included."""

import numpy as np


def sum_rows(rows, values):
    """(rows, values) with the same total for every row: rows (N,), values (N, D). Here they stay as they came.

    A RowSparse may name a row several times, and to count the distinct ones the host would have to wait for a GPU.
    """
    return rows, values


# ---------------------------------------------------------------- fused NumPy

def sum_rows_numpy(rows, values):
    """Distinct rows, ascending, and the sum over each, after a stable sort: the order of every sum is fixed."""
    if len(rows) == 0:
        return rows, values
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.add.reduceat(values[order], starts, axis=0)
