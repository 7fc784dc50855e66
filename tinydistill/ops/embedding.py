"""Reading rows of a table."""

import numpy as np

from tinydistill import kernels
from tinydistill.tensor import RowSparse, op


@op
def embedding(table, ids):
    """y = table[ids]. Shapes: table (V, D), ids (...,) integers, y (..., D).

    Gradient: a RowSparse of the rows that were read; a row read several times gets the sum over all its readings.
    Raises: ValueError where an id has no row. (Looked at on the host only: a GPU is not asked to wait.)
    """
    if isinstance(ids, np.ndarray) and ids.size and not 0 <= ids.min() <= ids.max() < len(table):
        raise ValueError(f"need ids from 0 to {len(table) - 1}; got ids from {ids.min()} to {ids.max()}")

    def pullback(dy):
        rows, sums = kernels.of(dy).sum_rows(ids.reshape(-1), dy.reshape(-1, table.shape[1]))
        return RowSparse(rows, sums, table.shape), None
    return table[ids], pullback
