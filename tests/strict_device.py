"""A strict stand-in for CuPy, so that `--backend cupy` is tested on machines without a GPU.

It poses as the modules `cupy` and `cupyx`, computes with NumPy, and is at least as strict as CuPy wherever code that
was only ever run on NumPy goes wrong on a device: nothing moves to or from the host unasked, and where CuPy leaves a
result open (the winner of a scatter, the layout of a result, a negative float as an unsigned integer) it answers at
random. What it is not: a model of speed, of streams or of CUDA kernels.

    with strict_device.installed() as cupy, strict_device.no_sync():
        y = softmax(cupy.asarray(x))                # raises HostSync where the host would wait for the device
"""

import contextlib
import functools
import math
import operator
import sys
import types

import numpy as np

PROPERTIES = "shape dtype ndim size nbytes itemsize strides flags".split()
VIEWS = "T mT real imag".split()
HOST = "data ctypes base getfield setfield setflags resize to_device tofile dump dumps".split()     # not on a device
NOT_IN_CUPY = set("""block einsum_path errstate frompyfunc geomspace geterr histogram_bin_edges insert matvec
    ndenumerate nditer nested_iters seterr spacing unstack vecdot vecmat nanpercentile nanquantile polyder polydiv
    polyint emath asmatrix bmat matrix_norm multi_dot svdvals vector_norm""".split())
KEYWORDS_NOT_IN_CUPY = {"where", "initial", "stable", "correction"}
SYNCS = set("""item tolist tobytes nonzero flatnonzero argwhere unique unique_values unique_counts unique_inverse
    unique_all compress extract bincount histogram""".split())      # the host reads their result's value or its size
KEEPS_LAYOUT = set("""array asarray ascontiguousarray asfortranarray copy zeros ones empty full arange zeros_like
    ones_like empty_like full_like reshape ravel astype""".split())

state = types.SimpleNamespace(syncs=0, limit=math.inf, random=np.random.default_rng(0))


class HostSync(AssertionError):
    """The host waited for the device where it must not."""


@contextlib.contextmanager
def no_sync(budget=0):
    """Within this block the host may wait for the device `budget` times, then HostSync is raised where it happens."""
    before = state.limit
    state.limit = min(before, state.syncs + budget)
    try:
        yield
    finally:
        state.limit = before


def _sync(reason):
    state.syncs += 1
    if state.syncs > state.limit:
        raise HostSync(f"{reason} makes the host wait for the device")


def _unwrap(value, operand=False):
    """Device arrays as their private NumPy arrays; NumPy's own are refused, but for integers as shape, axis, count."""
    if isinstance(value, ndarray):
        return value._data
    refused = (np.ndarray, np.generic, list, tuple) if operand else (np.ndarray, np.inexact, np.bool_)
    if isinstance(value, refused):
        raise TypeError(f"Unsupported type {type(value)}: asarray is the one way to the device")
    if isinstance(value, (list, tuple)):
        return type(value)(map(_unwrap, value))
    return value


def _wrap(result, free_layout):
    """NumPy's answer as device arrays: scalars as 0-d arrays, the memory order drawn where CuPy does not promise it."""
    if isinstance(result, (list, tuple)):
        return tuple(_wrap(r, free_layout) for r in result)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    data = np.asarray(result)
    if free_layout and data.ndim > 1 and data.base is None and state.random.integers(2):
        data = np.asfortranarray(data)
    return ndarray(data)


def _call(function, *arguments, **settings):
    """A NumPy function on device arrays, as CuPy would do it."""
    name = function.__name__
    if KEYWORDS_NOT_IN_CUPY.intersection(settings):
        raise TypeError(f"{name}() got a keyword that CuPy does not have: {', '.join(settings)}")
    if name in SYNCS or name == "where" and len(arguments) == 1:
        _sync(name)
    if name == "take":
        settings["mode"] = "wrap"
    operands = isinstance(function, np.ufunc)
    hosts = [_unwrap(a, operands) for a in arguments]
    with np.errstate(all="ignore"):                 # a device warns of nothing
        result = function(*hosts, **{key: _unwrap(value) for key, value in settings.items()})
    if name in ("item", "tolist", "tobytes"):
        return result
    if settings.get("out") is not None:
        return settings["out"]
    return _wrap(result, name not in KEEPS_LAYOUT and not any(result is host for host in hosts))


def _cast(data, dtype):
    """data as dtype, where what no unsigned integer can hold becomes any unsigned integer."""
    dtype = np.dtype(dtype)
    with np.errstate(all="ignore"):
        cast = np.array(data, dtype)                # order K: astype keeps the layout
        if data.dtype.kind == "f" and dtype.kind == "u":
            cast[...] = np.where(data >= 0, cast, state.random.integers(1, 255, data.shape).astype(dtype))
    return cast


def _index(index, shape):
    """(index, whether it scatters): device arrays unwrapped, and wrapped around where they point outside."""
    items = index if isinstance(index, tuple) else (index,)
    arrays = [i._data for i in items if isinstance(i, ndarray)]
    if any(isinstance(i, (list, np.ndarray)) for i in items):
        raise TypeError("need index arrays on the device, got one of the host")
    used = sum(i is not None and i is not Ellipsis for i in items) + sum(a.ndim - 1 for a in arrays if a.dtype == bool)
    axis, unwrapped = 0, []
    for i in items:
        if isinstance(i, ndarray) and i.dtype == bool:
            _sync("a boolean index")                # CuPy reads how many are True
            unwrapped.append(i._data)
            axis += i.ndim
        elif i is None or i is Ellipsis:
            unwrapped.append(i)
            axis += 0 if i is None else len(shape) - used
        else:
            unwrapped.append(i if isinstance(i, slice) else i._data % shape[axis] if isinstance(i, ndarray) else
                             operator.index(i))
            axis += 1
    tail = () if any(i is Ellipsis for i in items) else (Ellipsis,)     # x[0] of a vector is a 0-d view
    return tuple(unwrapped) + tail, any(a.dtype != bool for a in arrays)


class ndarray:
    """An array on the device: a private NumPy array behind CuPy's manners."""

    __module__ = "cupy"
    __slots__ = ("_data",)
    __hash__ = None

    def __init__(self, data):
        self._data = data

    def __getattr__(self, name):
        if name.startswith("_") or name in HOST or not hasattr(np.ndarray, name):
            raise AttributeError(f"a CuPy array has no {name}")
        if name in PROPERTIES:
            return getattr(self._data, name)
        if name in VIEWS:
            return ndarray(getattr(self._data, name))
        return functools.partial(_call, getattr(np.ndarray, name), self)

    def __getitem__(self, index):
        return _wrap(self._data[_index(index, self.shape)[0]], free_layout=True)

    def __setitem__(self, index, value):
        if not isinstance(value, (ndarray, bool, int, float, complex)) or isinstance(value, np.generic):
            raise TypeError(f"need a device array or a Python number to assign, got {type(value)}")
        index, scatters = _index(index, self.shape)
        value = _cast(value._data, self.dtype) if isinstance(value, ndarray) else value
        if not scatters:
            self._data[index] = value
            return
        place = np.arange(self.size).reshape(self.shape)[index]
        order = state.random.permutation(place.size)        # of several values for one place any may be the last
        self._data.flat[place.ravel()[order]] = np.broadcast_to(value, place.shape).ravel()[order]

    def __len__(self):
        return len(self._data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def astype(self, dtype, order="K", copy=True):
        return self if not copy and self.dtype == dtype else ndarray(_cast(self._data, dtype))

    def get(self):
        _sync("get")
        return self._data.copy()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed: use backend.to_host")

    def __array_ufunc__(self, ufunc, *_, **__):
        raise TypeError(f"np.{ufunc.__name__} got a device array: use xp_of(x).{ufunc.__name__}")

    def __array_function__(self, function, *_, **__):
        raise TypeError(f"np.{function.__name__} got a device array: use xp_of(x).{function.__name__}")


def _define_operators():
    """The operators of Python on device arrays and Python numbers, and the conversions that make the host wait."""
    def operation(ufunc, reflected=False, in_place=False):
        def operate(self, other):
            if not isinstance(other, (ndarray, np.ndarray, np.generic, bool, int, float, complex)):
                return NotImplemented
            out = {"out": self} if in_place else {}
            return _call(ufunc, other, self, **out) if reflected else _call(ufunc, self, other, **out)
        return operate

    def conversion(name):
        def convert(self, *arguments):
            _sync(name)
            return getattr(self._data, name)(*arguments)
        return convert

    for names, ufunc in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
                         "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "matmul": np.matmul,
                         "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
                         "rshift": np.right_shift}.items():
        setattr(ndarray, f"__{names}__", operation(ufunc))
        setattr(ndarray, f"__r{names}__", operation(ufunc, reflected=True))
        setattr(ndarray, f"__i{names}__", operation(ufunc, in_place=True))
    for name, ufunc in {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
                        "ge": np.greater_equal}.items():
        setattr(ndarray, f"__{name}__", operation(ufunc))
    for name, ufunc in {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}.items():
        setattr(ndarray, f"__{name}__", functools.partialmethod(lambda self, ufunc: _call(ufunc, self), ufunc))
    for name in "bool int float complex index repr str format".split():
        setattr(ndarray, f"__{name}__", conversion(f"__{name}__"))


_define_operators()


class Library(types.ModuleType):
    """A module whose functions are those of a NumPy module, on device arrays; what CuPy lacks it lacks too."""

    def __init__(self, name, source):
        super().__init__(name)
        self._source = source

    def __getattr__(self, name):
        if name.startswith("_") or name in NOT_IN_CUPY or not hasattr(self._source, name):
            raise AttributeError(f"{self.__name__} has no {name} (neither does CuPy, or its stand-in lacks it)")
        found = getattr(self._source, name)
        if isinstance(found, types.ModuleType):
            if name not in ("linalg", "fft"):
                raise AttributeError(f"{self.__name__}.{name} is not NumPy's: draw and prepare on the host")
            return Library(f"{self.__name__}.{name}", found)
        is_constant = not callable(found) or isinstance(found, type)    # pi, newaxis, float32, finfo
        return found if is_constant else functools.partial(_call, found)


def _array(value, dtype=None, copy=True):
    """From the host, always into memory of its own; from the device, a copy if asked for."""
    if isinstance(value, ndarray):
        return value.astype(value.dtype if dtype is None else dtype, copy=copy)
    if isinstance(value, (list, tuple)):
        value = [v._data if isinstance(v, ndarray) else v for v in value]
    return ndarray(np.array(value, dtype))


def _asnumpy(value):
    return value.get() if isinstance(value, ndarray) else np.asarray(value)


def _take_along_axis(x, indices, axis=-1):
    return _call(np.take_along_axis, x, indices % x.shape[axis], axis)


def _scatter_add(target, index, values):
    """target[index] += values, repetitions counted, summed in any order (atomic additions)."""
    if target.dtype.name not in ("float16", "float32", "float64", "int32", "uint32", "uint64"):
        raise TypeError(f"scatter_add does not support {target.dtype}")
    index, _ = _index(index, target.shape)
    place = np.arange(target.size).reshape(target.shape)[index]
    order = state.random.permutation(place.size)
    values = np.broadcast_to(_unwrap(values, operand=True), place.shape).ravel()[order]
    flat = target._data.reshape(-1).copy()
    np.add.at(flat, place.ravel()[order], values.astype(target.dtype))
    target._data[...] = flat.reshape(target.shape)


@contextlib.contextmanager
def installed(seed=0):
    """`import cupy` and `import cupyx` find the stand-in within this block, which yields the former."""
    import scipy.special
    state.syncs, state.limit, state.random = 0, math.inf, np.random.default_rng(seed)
    cupy, cupyx = Library("cupy", np), types.ModuleType("cupyx")
    vars(cupy).update(ndarray=ndarray, array=_array, asarray=functools.partial(_array, copy=False), asnumpy=_asnumpy,
                      take_along_axis=_take_along_axis, cuda=types.SimpleNamespace(is_available=lambda: True))
    cupyx.scatter_add = _scatter_add
    cupyx.scipy = types.ModuleType("cupyx.scipy")
    cupyx.scipy.special = Library("cupyx.scipy.special", scipy.special)
    posing = {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": cupyx.scipy, "cupyx.scipy.special": cupyx.scipy.special}
    before = {name: sys.modules.get(name) for name in posing}
    sys.modules.update(posing)
    try:
        yield cupy
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
