"""Checkpoints that outlive a kill at any moment and a power cut: what `--resume` starts from.

    step-40/arrays.safetensors    every array by name
            meta.json             the numbers and names beside them
            manifest.json         sha256, dtype and shape of each array, sha256 of meta.json and of all this
    LATEST                        the step that was saved last

A save writes the three files into step-40.tmp and waits until they are on the disk, renames the folder to step-40 and
waits for that, then replaces LATEST in the same way. So a folder that is called step-N is whole, unless the disk
damaged it later; the manifest shows that. LATEST is not needed to find a checkpoint, but to notice that one is gone.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np

from tinydistill.errors import Problem
from tinydistill.training.disk import (LIMIT, decode_json, encode_json, fsync_directory, in_one_line, make_directory,
                                       read_file, remove, rename, write_atomically, write_file)

FORMAT = 1
ARRAYS, META, MANIFEST, LATEST = "arrays.safetensors", "meta.json", "manifest.json", "LATEST"


class CheckpointDamaged(Problem):
    """A checkpoint is not what was saved: names the file, the tensor where it is one, the reason, and what to do."""


def to_stderr(line):
    """How a person is told of what a load found, unless the caller says otherwise."""
    print(line, file=sys.stderr)


# ---------------------------------------------------------------- save, load, prune

def save(directory, step, arrays, meta):
    """Keep `arrays` by name, and `meta`, a JSON dict, as step-N. Once this returns, no kill and no power cut undoes it.

    A step that is there with the same arrays stays as it is. Returns the folder.
    Raises: Problem where the disk refuses, with every earlier checkpoint as it was.
    """
    directory = Path(directory)
    folder, unfinished = directory / f"step-{step}", directory / f"step-{step}.tmp"
    files, tensors = _packed(step, arrays, meta)
    try:
        make_directory(directory)
        if not os.path.lexists(folder):
            remove(unfinished)
            make_directory(unfinished)
            for name, data in files.items():
                write_file(unfinished / name, data)
            fsync_directory(unfinished)
            rename(unfinished, folder)
        elif not _holds(folder, step, tensors):
            raise Problem(f"cannot save step {step}: {folder} is there, damaged or another run's: move it away")
        else:
            fsync_directory(directory)              # a save that failed just after its rename is asked for again
        write_atomically(directory / LATEST, f"step-{step}\n".encode())
    except OSError as error:
        with contextlib.suppress(OSError):
            remove(unfinished)                      # a full disk gets its room back
        raise Problem(f"cannot save step {step} in {directory}: {error.strerror}; the checkpoints before it are kept: "
                      "mend this and go on with --resume") from error
    return folder


def load(directory, step=None, fall_back=False, say=to_stderr):
    """(step, arrays, meta) of the newest checkpoint, or of `step`: exactly what was saved, or an error.

    fall_back: where the newest is damaged, go on from the newest intact one, `say` so, and rename those after it to
    step-N.damaged. Without fall_back a damaged checkpoint is an error that names the intact one before it.
    Raises: CheckpointDamaged; Problem where nothing was saved.
    """
    directory, damaged = Path(directory), {}
    for candidate in _steps(directory) if step is None else [step]:
        try:
            arrays, meta, _ = _read(directory / f"step-{candidate}", candidate)
            break
        except CheckpointDamaged as error:
            damaged[candidate] = error
    else:
        if not damaged:
            raise Problem(f"need a checkpoint, and {directory} holds none")
        raise CheckpointDamaged(f"{next(iter(damaged.values()))}; " + (
            "no intact checkpoint is left: start again in an empty folder" if step is None
            else "take another step"))
    if damaged and not fall_back:
        raise CheckpointDamaged(f"{next(iter(damaged.values()))}; step-{candidate} is intact: "
                                "--resume auto goes on from there")
    if damaged:
        with in_one_line(f"set damaged checkpoints in {directory} aside"):
            for bad, error in damaged.items():
                say(f"{error}; going on from step-{candidate}")
                _set_aside(directory / f"step-{bad}")
            write_atomically(directory / LATEST, f"step-{candidate}\n".encode())
    return candidate, arrays, meta


def newest(directory):
    """The newest step that is there or that LATEST promises, intact or not; None where nothing was saved."""
    return next(iter(_steps(Path(directory))), None)


def prune(directory, keep=2):
    """Delete what is older than the `keep` newest intact checkpoints; each of these is read, to be sure."""
    if keep < 1:
        raise ValueError(f"need to keep at least 1 checkpoint, got {keep}")
    directory, intact = Path(directory), 0
    for step in _steps(directory):
        folder, unfinished = directory / f"step-{step}", directory / f"step-{step}.tmp"
        if intact < keep:
            with contextlib.suppress(CheckpointDamaged):
                _read(folder, step)
                intact += 1
        elif os.path.lexists(folder):
            with in_one_line(f"delete {folder}"):
                remove(unfinished)
                rename(folder, unfinished)          # half deleted, it is no longer called step-N
                remove(unfinished)


def clean(directory):
    """Remove what a killed save or prune left behind."""
    with in_one_line(f"clean {directory}"):
        for name in os.listdir(directory):
            if re.fullmatch(r"(step-[0-9]+|LATEST)\.tmp", name):
                remove(Path(directory, name))


def _steps(directory):
    """From the newest to the oldest, the steps that are there and the one that LATEST promises."""
    with in_one_line(f"look into {directory}"):
        names = os.listdir(directory) if directory.is_dir() else []
    with contextlib.suppress(ValueError, OSError):
        names.append(read_file(directory / LATEST).decode("ascii").strip())
    matches = [re.fullmatch("step-(0|[1-9][0-9]{0,17})", name) for name in names]
    return sorted({int(match[1]) for match in matches if match}, reverse=True)


def _set_aside(folder):
    aside = folder.with_suffix(".damaged")
    if os.path.lexists(folder):
        remove(aside)
        rename(folder, aside)


# ---------------------------------------------------------------- what is in a checkpoint

def _packed(step, arrays, meta):
    """The files of a checkpoint as {name: bytes}, the manifest last, and what it says of the tensors."""
    from safetensors.numpy import save as to_safetensors
    if type(step) is not int or not 0 <= step < 10**18:
        raise ValueError(f"need a step that is an int from 0, got {step!r}")
    if "__metadata__" in arrays:
        raise ValueError("need another name for the tensor __metadata__, which safetensors keeps for itself")
    arrays = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    tensors = {name: _described(array) for name, array in arrays.items()}
    payload, meta = to_safetensors(arrays), encode_json(meta)
    manifest = {"format": FORMAT, "step": step, "bytes": len(payload), "tensors": tensors,
                "meta": hashlib.sha256(meta).hexdigest()}
    # A manifest is longer than the header of its payload, so what encode_json lets through can be read again.
    return {ARRAYS: payload, META: meta, MANIFEST: encode_json(manifest | {"seal": _seal(manifest)})}, tensors


def _read(folder, step):
    """(arrays, meta, what the manifest says of the tensors), all checked; sizes before anything is parsed."""
    from safetensors.numpy import load as from_safetensors
    if folder.is_symlink():
        raise CheckpointDamaged(f"{folder} cannot be used: it is a symbolic link, which is never followed")
    with _damage_in(folder / MANIFEST) as path:
        manifest = decode_json(read_file(path))
        if not isinstance(manifest, dict):
            raise ValueError("it is no manifest")
        if manifest.get("format") != FORMAT:
            raise ValueError(f"need format {FORMAT}, got {manifest.get('format')!r}")
        if manifest.pop("seal", None) != _seal(manifest):
            raise ValueError("its sha256 is not that of what was saved")
        if manifest.get("step") != step:
            raise ValueError(f"it belongs to step {manifest.get('step')!r}")
        size, tensors = manifest.get("bytes"), manifest.get("tensors")
        if type(size) is not int or not isinstance(tensors, dict):
            raise ValueError("it is no manifest")
    with _damage_in(folder / META) as path:
        data = read_file(path)
        if hashlib.sha256(data).hexdigest() != manifest.get("meta"):
            raise ValueError("its sha256 is not that of what was saved")
        meta = decode_json(data)
    with _damage_in(folder / ARRAYS) as path:
        data = read_file(path, size)
        if len(data) != size:
            raise ValueError(f"it has {len(data)} bytes, and {size} were saved")
        if int.from_bytes(data[:8], "little") > LIMIT:
            raise ValueError(f"its header claims more than {LIMIT} bytes")
        arrays = from_safetensors(data)
        for name in sorted(arrays.keys() | tensors.keys()):
            if reason := _difference(arrays.get(name), tensors.get(name)):
                raise ValueError(f"tensor {name!r:.80} {reason}")
    return {name: arrays[name] for name in tensors}, meta, tensors              # in the order they were saved in


@contextlib.contextmanager
def _damage_in(path):
    from safetensors import SafetensorError
    try:
        yield path
    except OSError as error:
        raise CheckpointDamaged(f"{path} cannot be used: {error.strerror}") from error
    except (ValueError, KeyError, SafetensorError) as error:            # KeyError: a dtype that NumPy has not
        raise CheckpointDamaged(f"{path} cannot be used: {error}") from error


def _seal(manifest):
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()


def _described(array):
    digest = hashlib.sha256(array.reshape(-1).view(np.uint8)).hexdigest()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": digest}


def _difference(array, saved):
    if array is None:
        return "is missing"
    if not isinstance(saved, dict):
        return "was never saved"
    parts = [part for part, value in _described(array).items() if value != saved.get(part)]
    return f"is not what was saved: other {', '.join(parts)}" if parts else None


def _holds(folder, step, tensors):
    """Whether a checkpoint that is there already is intact and has these tensors."""
    with contextlib.suppress(CheckpointDamaged):
        return _read(folder, step)[2] == tensors
    return False
