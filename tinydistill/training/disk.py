"""Files that are on the disk when these functions return, and bytes that nobody vouches for, read with care.

Everything that changes the disk goes through `os` and `shutil` as this module knows them: that is where the tests put
a disk that fails, or a machine that stops, at each single operation in turn.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
from pathlib import Path

from tinydistill.errors import Problem

LIMIT = 4 << 20                                     # bytes of JSON: parsed in well under a second
DEPTH = 64                                          # of lists and dicts within each other


@contextlib.contextmanager
def in_one_line(doing, advice=""):
    """Within this block, what the disk refuses is a Problem that says what was being done."""
    try:
        yield
    except OSError as error:
        raise Problem(f"cannot {doing}: {error.strerror}{advice}") from error


# ---------------------------------------------------------------- write

def write_file(path, data):
    """A new file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest):]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path, data):
    """A file that is replaced as a whole or not at all."""
    unfinished = path.with_name(path.name + ".tmp")
    remove(unfinished)
    write_file(unfinished, data)
    rename(unfinished, path)


def rename(path, to):
    """Another name in the same folder."""
    os.rename(path, to)
    fsync_directory(path.parent)


def make_directory(path):
    """A folder, with those above it that are missing."""
    if not path.is_dir():
        make_directory(path.parent)
        os.mkdir(path)
        fsync_directory(path.parent)


def fsync_directory(path):
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:             # a file system that cannot promise this for folders
            raise
    finally:
        os.close(descriptor)


def remove(path):
    """Take away a folder, a file, or a link but not what it points to, if it is there; does not wait for the disk."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# ---------------------------------------------------------------- read

def read_file(path, limit=LIMIT):
    """The bytes of a regular file, no link, of at most `limit` bytes. Raises: ValueError, OSError."""
    if Path(path).is_symlink():
        raise ValueError("it is a symbolic link, which is never followed")
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > limit:
            raise ValueError(f"it has {status.st_size} bytes, and at most {limit} belong there")
        return file.read()


def encode_json(value):
    """`value` as JSON that `decode_json` gives back equal; where it would not (a tuple, a NaN), a ValueError."""
    data = (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
    if decode_json(data) != value:
        raise ValueError("need what JSON can hold: lists instead of tuples, text as keys")
    return data


def decode_json(data):
    """JSON of at most `LIMIT` bytes, `DEPTH` deep and with integers of 64 bits; a ValueError where it is not."""
    if len(data) > LIMIT:
        raise ValueError(f"need at most {LIMIT} bytes of JSON, got {len(data)}")
    try:
        value = json.loads(data, parse_int=_integer)
        depth = _depth(value)
    except RecursionError:
        depth = DEPTH + 1
    if depth > DEPTH:
        raise ValueError(f"need JSON that is at most {DEPTH} deep")
    return value


def _integer(digits):
    if len(digits) > 20 or not -2**63 <= int(digits) < 2**64:
        raise ValueError(f"need integers of 64 bits, got one of {len(digits)} digits")
    return int(digits)


def _depth(value):
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)
