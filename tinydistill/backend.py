"""Where NumPy and CuPy differ. Every other file is written once, for `xp`, the library of its arrays.

Random numbers are counted, not drawn: `random_bits` is a function of (seed, counters), so the same place of the same
step gives the same bits on any thread, process, backend or resumed run, and there is no generator state to save.
"""

import sys
import zlib

import numpy as np

from tinydistill.errors import Problem, WrongUsage


def load(name):
    """The array library called `name`: "numpy" or "cupy"; a missing GPU is one line that says what to install."""
    if name == "numpy":
        return np
    if name != "cupy":
        raise WrongUsage(f"need a backend out of numpy, cupy; got {name!r}")
    try:
        import cupy
    except ImportError:
        raise Problem("--backend cupy needs CuPy, which is not installed: pip install 'tinydistill[gpu-cuda12]' "
                      "(or gpu-cuda13, after your CUDA version), or use --backend numpy") from None
    if not cupy.cuda.is_available():
        raise Problem("--backend cupy needs an NVIDIA GPU and its driver, and CuPy finds none here: "
                      "use --backend numpy")
    return cupy


def xp_of(array):
    """The library that `array` belongs to."""
    if isinstance(array, (np.ndarray, np.generic)):
        return np
    if type(array).__module__.partition(".")[0] == "cupy":
        return sys.modules["cupy"]
    raise TypeError(f"need a NumPy or CuPy array, got {type(array).__name__}")


def asarray(array, like):
    """`array` in the library of `like`: a NumPy array moves to the GPU when `like` lives there."""
    return xp_of(like).asarray(array)


def to_host(array):
    """`array` as a NumPy array. On a GPU this waits for the device: never inside forward or backward."""
    return array if isinstance(array, np.ndarray) else sys.modules["cupy"].asnumpy(array)


def erf(x):
    """erf(x) = 2/sqrt(pi) * integral of exp(-t^2) from 0 to x: the definition that GELU is measured against."""
    if xp_of(x) is np:
        from scipy.special import erf as scipy_erf
        return scipy_erf(x)
    from cupyx.scipy.special import erf as cupy_erf
    return cupy_erf(x)


def add_at(target, rows, values):
    """target[rows] += values where rows may repeat: every repetition counts."""
    if xp_of(target) is np:
        np.add.at(target, rows, values)
    else:
        import cupyx
        cupyx.scatter_add(target, rows, values)


# ---------------------------------------------------------------- random numbers, counted

def stream(name):
    """A name as an integer counter: the same on every machine (Python's own hash is not)."""
    return zlib.crc32(name.encode())


def random_bits(count, seed, *counters):
    """`count` uniform 16-bit integers (NumPy, uint16): Philox 4x64 with key (seed, 0) at counter (0, *counters)."""
    if len(counters) > 3:
        raise ValueError(f"need at most three counters, got {len(counters)}")
    words = np.zeros(4, np.uint64)
    words[1:1 + len(counters)] = counters           # word 0 counts the blocks of this draw
    philox = np.random.Philox(counter=words, key=np.array([seed, 0], np.uint64))
    return philox.random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count]


def generator(seed, *counters):
    """A NumPy Generator at the same place of the same stream, for shuffles and initial weights."""
    words = np.zeros(4, np.uint64)
    words[1:1 + len(counters)] = counters
    return np.random.Generator(np.random.Philox(counter=words, key=np.array([seed, 1], np.uint64)))


# ---------------------------------------------------------------- processors and BLAS threads

def cpu_count():
    """The processors that this process may use."""
    import os
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_blas_threads(count):
    """Let every matrix product of NumPy's own OpenBLAS run on `count` threads; what the user set in the environment stays.

    Returns whether it was done: NumPy on macOS, or built on another BLAS, has no such symbol.
    """
    import ctypes
    import os
    from pathlib import Path

    if {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} & os.environ.keys():
        return False
    for path in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads"):
            setter = getattr(ctypes.CDLL(str(path)), name, None)
            if setter is not None:
                setter(count)
                return True
    return False
