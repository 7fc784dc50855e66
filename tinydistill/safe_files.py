"""JSON and safetensors that may come from anybody: read within limits, every number checked, no pickle.

A safetensors file is 8 bytes n, little-endian · n bytes of JSON {tensor: {"dtype", "shape", "data_offsets"}} · the
tensors' bytes, in the order of their offsets and without gaps.
Source: the format section of github.com/huggingface/safetensors. It has no checksum: who needs one adds it.
"""

import contextlib
import json
import math
import os

import numpy as np

from tinydistill.errors import Problem

LARGEST_JSON = 1 << 20                              # bytes
LARGEST_HEADER = 16 << 20
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"}


def read_json(path, max_bytes=LARGEST_JSON):
    """What the JSON file `path` says. Raises: Problem that names the file and the reason."""
    with _explained(path), open(path, "rb") as file:
        text = file.read(max_bytes + 1)
        if len(text) > max_bytes:
            raise ValueError(f"it is longer than {max_bytes} bytes, which no such file needs to be")
        return _parse(text)


def read_safetensors(path, max_header=LARGEST_HEADER):
    """{name: NumPy array} of a safetensors file. bfloat16, which NumPy lacks, arrives as float32, exactly.

    Nothing is allocated that the file does not hold.
    Raises: Problem that names the file, the tensor and the reason.
    """
    with _explained(path), open(path, "rb") as file:
        length, header_length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if header_length > length - 8:
            raise ValueError(f"its {length} bytes end before its header does: it is cut off, or no safetensors file")
        if header_length > max_header:
            raise ValueError(f"its header has {header_length} bytes, more than the {max_header} that are read")
        header = _parse(file.read(header_length))
        if not isinstance(header, dict):
            raise ValueError("its header names no tensors")
        header.pop("__metadata__", None)
        entries = sorted(_entry(name, entry) for name, entry in header.items())
        place, tensors = 0, {}
        for begin, end, name, dtype, shape in entries:
            if begin != place:
                raise ValueError(f"tensor {name!r:.80} begins at byte {begin} of the data, but {place} comes next")
            place = end
        if place != length - 8 - header_length:
            raise ValueError(f"its tensors need {place} bytes of data, and it has {length - 8 - header_length}")
        for begin, end, name, dtype, shape in entries:
            numbers = np.fromfile(file, DTYPES[dtype], math.prod(shape)).reshape(shape)
            tensors[name] = (numbers.astype("<u4") << 16).view("<f4") if dtype == "BF16" else numbers
        return tensors


def _entry(name, entry):
    """(begin, end, name, dtype, shape) of one tensor of the header, if they make sense together."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = isinstance(shape, list) and len(shape) <= 32 and \
            all(type(n) is int and n >= 0 for n in [*shape, begin, end])
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"tensor {name!r:.80} needs a dtype, a shape and two offsets in whole numbers")
    if str(dtype) not in DTYPES:
        raise ValueError(f"tensor {name!r:.80} is of dtype {dtype!r:.80}; need one of {', '.join(DTYPES)}")
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise ValueError(f"tensor {name!r:.80} of shape {tuple(shape)} and dtype {dtype} cannot have "
                         f"{end - begin} bytes")
    return begin, end, name, dtype, shape


def _parse(text):
    return json.loads(text.decode("utf-8"), object_pairs_hook=_once_each, parse_int=_short)


def _once_each(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _short(digits):
    if len(digits) > 18:                            # below 2^63, and no time lost
        raise ValueError("a number has more than 18 digits")
    return int(digits)


@contextlib.contextmanager
def _explained(path):
    """Whatever is wrong with the file is one line about `path`."""
    try:
        yield
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise Problem(f"cannot read {path}: its JSON is nested too deeply") from None
    except ValueError as error:                     # of json and of decoding, too
        raise Problem(f"cannot read {path}: {error}") from None
