"""Numbers of rows of different lengths in one .npy file: row after row, without padding.

Where a row lies follows from the lengths of those before it. The file is mapped, not read: what the memory does not
hold stays on the disk.
"""

import hashlib
import math
import os

import numpy as np
from numpy.lib.format import open_memmap


class RowFile:
    """The file at `path`. shape: of one row, with "n" where its length stands, as in ("n", 12) or (2, "n", "n").

    lengths: (N,), n of each row. dtype: of the numbers. Either `create` or `open` comes first.
    """

    def __init__(self, path, shape, lengths, dtype):
        self.path, self.shape, self.lengths, self.dtype = path, tuple(shape), lengths, np.dtype(dtype)
        sizes = math.prod(self._sides(lengths)) * np.ones_like(lengths)
        self.starts = np.append(0, np.cumsum(sizes))                                    # (N + 1,)
        self.bytes = int(self.starts[-1]) * self.dtype.itemsize

    def create(self):
        """A new file, whose rows are to be written. Raises: OSError."""
        self.numbers = open_memmap(self.path, mode="w+", dtype=self.dtype, shape=(int(self.starts[-1]),))
        with open(self.path, "r+b") as file:
            if hasattr(os, "posix_fallocate"):      # all its room at once: a map that the disk has none for kills
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return self

    def write(self, i, padded):
        """Row i, out of an array that may have padding behind it; each number is rounded to the file's dtype, once.

        Raises: ValueError where one is not finite then.
        """
        with np.errstate(over="ignore"):
            numbers = padded[self._real(self.lengths[i])].ravel().astype(self.dtype)
        if not np.isfinite(numbers).all():
            raise ValueError(f"row {i} has a number that is not finite in {self.dtype}, "
                             f"which ends at {np.finfo(self.dtype).max:.3g}")
        self.numbers[self.starts[i]:self.starts[i + 1]] = numbers

    def finish(self):
        """Wait until all is on the disk. Returns the sha256 of the file."""
        self.numbers.flush()
        with open(self.path, "r+b") as file:
            os.fsync(file.fileno())
        return self._sha256()

    def open(self, sha256):
        """The file as it was finished, for reading. Raises: OSError; ValueError where it is another."""
        if self._sha256() != sha256:                # before its header is parsed
            raise ValueError("its sha256 is not that of what was written")
        self.numbers = open_memmap(self.path, mode="r")
        if (self.numbers.dtype, self.numbers.shape) != (self.dtype, (self.starts[-1],)):
            raise ValueError(f"need {self.starts[-1]} numbers of {self.dtype}; "
                             f"got the shape {self.numbers.shape} of {self.numbers.dtype}")
        return self

    def padded(self, rows, T, dtype):
        """These rows as (B, ...) of dtype, with T in the place of each "n"; 0 in padding."""
        padded = np.zeros((len(rows), *self._sides(T)), dtype)
        for line, i in zip(padded, rows):
            n = self.lengths[i]
            line[self._real(n)] = self.numbers[self.starts[i]:self.starts[i + 1]].reshape(self._sides(n))
        return padded

    def _sha256(self):
        return hashlib.sha256(np.memmap(self.path, np.uint8, "r")).hexdigest()

    def _sides(self, n):
        return tuple(n if side == "n" else side for side in self.shape)

    def _real(self, n):
        """What is not padding in a row of length n."""
        return tuple(slice(n) if side == "n" else slice(None) for side in self.shape)
