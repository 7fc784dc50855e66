"""Reading rows of a table."""

from tinydistill import kernels
from tinydistill.tensor import RowSparse, op


@op
def embedding(table, ids):
    """y = table[ids]. Shapes: table (V, D), ids (...,) integers, y (..., D).

    Gradient: a RowSparse of the rows that were read; a row read several times gets the sum over all its readings.
    """
    def pullback(dy):
        rows, sums = kernels.of(dy).sum_rows(ids.reshape(-1), dy.reshape(-1, table.shape[1]))
        return RowSparse(rows, sums, table.shape), None
    return table[ids], pullback
