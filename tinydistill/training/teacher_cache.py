"""A teacher whose features were computed before: every row of the training set went through it once.

    DIR/cache.json              what the cache is of, the shape of a row in each file, and sha256s; written last
        hidden.2.npy            a field of Features of one layer, row after row without padding: row_file.py
        logits.npy              one of the whole model

The files are made in DIR.partial, which is called DIR once they are whole. What is read back is what was written, to
the bit; the last bits of a teacher that computes as it goes depend on the batch, so the two differ by rounding.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from tinydistill.backend import to_host, xp_of
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import PER_LAYER, PER_MODEL, Features, Pass
from tinydistill.methods.stage import TASK, TEXT
from tinydistill.students.bertvision import padded
from tinydistill.students.heads import select
from tinydistill.tensor import Tensor, no_grad
from tinydistill.training.checkpoints import to_stderr
from tinydistill.training.disk import (decode_json, encode_json, fsync_directory, in_one_line, make_directory,
                                       read_file, remove, rename, write_file)
from tinydistill.training.evaluation import array_library
from tinydistill.training.row_file import RowFile

FORMAT, INDEX = 1, "cache.json"
DTYPES = ("float16", "float32", "float64")
AXES = {"embeddings": "nD", "hidden": "nD", "scores": "Ann", "queries": "AnK", "keys": "AnK", "values": "AnK",
        "pooled": "D", "next_sentence": "C"}        # of a row of length n; logits: "C" or, for each token, "nC"


def open_or_build(directory, teacher, batches, needs, identity, dtype="float32", say=to_stderr, quiet=False,
                  length=None):
    """A CachedTeacher with the features of `needs` for every row of `batches`, out of `directory`, built if need be.

    batches: a Batches, whose batches name their rows by `indices`. identity: {name: text or number}, what makes the
    features what they are, such as the sha256 of teacher and tokenizer; that of the tokens themselves is added.
    dtype: of the files; float16 takes half the room and rounds once. say: is told what is built, and its size.
    length: every row is padded to so many tokens, and what the teacher makes of padding is kept, too, for whoever reads
    it (BERT-Vision); the batches asked for have to be as long. None: rows have their own length, padding is not kept.
    A cache that has more features than `needs` serves as well.
    Raises: WrongUsage, which names every difference, where `directory` holds something else; Problem where it is
    damaged, where another process builds it, and where the disk refuses.
    """
    if dtype not in DTYPES:
        raise WrongUsage(f"need a dtype of the teacher cache out of {', '.join(DTYPES)}; got {dtype!r}")
    directory, names = Path(directory).resolve(), _names(needs, teacher.config.layers)
    origin = identity | {"dtype": dtype, "format": FORMAT, "tokens": _digest(batches)}
    origin = decode_json(encode_json(origin | ({} if length is None else {"length": length})))
    if not (directory / INDEX).exists():
        _build(directory, teacher, batches, needs, names, origin, say, quiet)
    with _intact(directory / INDEX) as path:
        index = decode_json(read_file(path))
        if not isinstance(index, dict) or index.pop("seal", None) != _seal(index):
            raise ValueError("its sha256 is not that of what was written")
    _require_same(directory, index, origin, names)
    files = {}
    for name in names:
        described = index["files"][name]
        with _intact(directory / f"{name}.npy") as path:
            files[name] = RowFile(path, described["shape"], _lengths(batches, length), dtype).open(described["sha256"])
    return CachedTeacher(directory, teacher, batches, files, length)


def require_cachable(stage):
    """Raises: WrongUsage where a stage's teacher reads tokens masked anew each time, or a term reads its padding."""
    if stage.reads not in (TEXT, TASK):
        raise WrongUsage(f"a teacher cache needs the same tokens in every epoch, and {stage.name} reads {stage.reads}, "
                         "masked anew each time: leave --cache-teacher out")
    for _, term in stage.terms:
        if term.teacher_reads and "all" in (term.rule.rows, term.rule.keys):
            raise WrongUsage(f"need terms that leave padding out for a teacher cache, which has none: {term.name} "
                             f"counts it in the convention {term.convention}")


class CachedTeacher:
    """`cached(batch, run) -> Features` as the teacher's, in its dtype, with zeros in padding that was not kept.

    A token head's logits come at the batch's `positions`, or at all (B*T,) where it has none.
    config, parameters, named_parameters: the teacher's. Gradient: none.
    Raises: Problem for features that the cache has not, and for rows that are not those of the data set. (Tokens are
    looked at on the host only: a GPU is not asked to wait.)
    """

    def __init__(self, directory, teacher, batches, files, length=None):
        self.directory, self.files, self.length = directory, files, length
        self.config, self.parameters = teacher.config, teacher.parameters
        self.named_parameters = getattr(teacher, "named_parameters", None)              # an ensemble has none
        self.sequences, self.lengths = batches.sequences, batches.lengths

    def __call__(self, batch, run):
        self._require_known(batch)
        features, whole = Features(f"the cache of {self.config}", self.config.layers, batch.mask), {}
        for name in _names(run.needs, self.config.layers):
            if name not in self.files:
                raise Problem(f"need {name}, but the teacher cache in {self.directory} has {', '.join(self.files)}")
            padded = self.files[name].padded(batch.indices, batch.ids.shape[1], self.parameters()[0].dtype)
            field, layer = _field(name)
            layers = whole if layer is None else getattr(features, field)
            layers[field if layer is None else layer] = Tensor(xp_of(batch.ids).asarray(padded))
        if "logits" in whole and self.config.head != "sequence":
            whole["logits"] = select(whole["logits"], batch.positions)                  # (B, T, C) -> (N, C)
        return features.has(**whole)

    def _require_known(self, batch):
        if batch.indices is None:
            raise Problem("need a batch that names its rows in the data set, to find them in the teacher cache")
        if self.length not in (None, batch.ids.shape[1]):
            raise Problem(f"need a batch padded to {self.length} tokens, as the teacher cache in {self.directory} is; "
                          f"got {batch.ids.shape[1]}")
        for line, i in enumerate(batch.indices):
            known = i < len(self.lengths) and self.lengths[i] <= batch.ids.shape[1]
            if known and isinstance(batch.ids, np.ndarray):
                known = np.array_equal(batch.ids[line][batch.mask[line]], self.sequences[i])
            if not known:
                raise Problem(f"need the rows that the teacher cache in {self.directory} was built of: row {i} of this "
                              "batch has other tokens, is of another data set or masked")


# ---------------------------------------------------------------- build

def _build(directory, teacher, batches, needs, names, origin, say, quiet):
    from tqdm import tqdm
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise WrongUsage(f"need an empty folder for the teacher cache, or a finished one: {directory} is neither")
    partial = directory.with_name(directory.name + ".partial")
    _, first = next(batches.once())
    length = origin.get("length")
    files = {name: RowFile(partial / f"{name}.npy", shape, _lengths(batches, length), origin["dtype"])
             for name, (_, shape) in _by_row(teacher, first, needs, names, length).items()}
    megabytes = sum(file.bytes for file in files.values()) / 1e6
    say(f"caching {len(batches.lengths):,} rows of {', '.join(names)}: {megabytes:,.1f} MB in {directory}")
    with in_one_line(f"build the teacher cache {directory}"), _locked(partial):
        try:
            for path in partial.iterdir():
                remove(path)                        # of a build that was interrupted
            for file in files.values():
                file.create()
            for indices, batch in tqdm(batches.once(), total=len(batches), desc="teacher", unit="batch", disable=quiet):
                for name, (rows, _) in _by_row(teacher, batch, needs, names, length).items():
                    _write(files[name], name, indices, rows)
            index = {"of": origin, "files": {name: {"shape": list(file.shape), "sha256": file.finish()}
                                             for name, file in files.items()}}
            write_file(partial / INDEX, encode_json(index | {"seal": _seal(index)}))
            fsync_directory(partial)
            rename(partial, directory)
        except (OSError, Problem):
            with contextlib.suppress(OSError):
                remove(partial)                     # a full disk gets its room back
            raise


def _lengths(batches, length):
    """How many tokens of each row are kept."""
    return batches.lengths if length is None else np.full_like(batches.lengths, length)


def _by_row(teacher, batch, needs, names, length):
    """{name: (values (B, ...) on the host, the shape of a row, "n" for its length)} of what the teacher computes."""
    if length is not None:
        batch = padded(batch, length, teacher.config.pad_id)
    with no_grad():
        features = teacher(batch.to(array_library(teacher)), Pass(needs))
    found = {}
    for name in names:
        field, layer = _field(name)
        values = getattr(features, field)
        values = to_host((values if layer is None else values[layer]).array)
        axes = AXES.get(field) or ("C" if teacher.config.head == "sequence" else "nC")
        if axes == "nC":
            values = values.reshape(batch.ids.shape + values.shape[1:])                 # (B*T, C) -> (B, T, C)
        found[name] = values, tuple("n" if axis == "n" else side for axis, side in zip(axes, values.shape[1:]))
    return found


def _write(file, name, indices, rows):
    for i, row in zip(indices, rows):
        try:
            file.write(i, row)
        except ValueError as error:
            raise Problem(f"cannot cache {name}: {error}") from None


@contextlib.contextmanager
def _locked(folder):
    """A folder that no other process builds in. The kernel lets go of it when this one ends, however it ends."""
    make_directory(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = folder.exists() and os.path.samestat(os.fstat(descriptor), os.stat(folder))
        except BlockingIOError:
            alone = False                           # or its builder finished, and renamed it, while we came
        if not alone:
            raise Problem(f"another process builds the teacher cache {folder}: wait for it, or choose another folder")
        yield
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------- what it is of

def _names(needs, depth):
    """What is needed of a model of so many layers, as files are called: hidden.0, hidden.1, logits."""
    per_layer = [f"{field}.{layer}" for field in PER_LAYER for layer in sorted(needs.layers(field, depth))]
    return per_layer + [field for field in PER_MODEL if field in needs]


def _field(name):
    field, _, layer = name.partition(".")
    return field, int(layer) if layer else None


def _digest(batches):
    """sha256 of all that the teacher reads."""
    digest = hashlib.sha256(np.asarray(batches.lengths, "<i8"))
    for rows in (batches.sequences, batches.token_types):
        for row in () if rows is None else rows:
            digest.update(np.asarray(row, "<i8"))
    return digest.hexdigest()


def _seal(index):
    return hashlib.sha256(json.dumps(index).encode()).hexdigest()


def _require_same(directory, index, origin, names):
    there, missing = index["of"], [name for name in names if name not in index["files"]]
    differences = [f"{name} {there.get(name, 'none')} (here {origin.get(name, 'none')})"
                   for name in sorted(there.keys() | origin.keys()) if there.get(name) != origin.get(name)]
    if missing:
        differences.append(f"features {', '.join(index['files'])} (here {', '.join(missing)} too)")
    if differences:
        raise WrongUsage(f"the teacher cache in {directory} is another, of {'; '.join(differences)}: choose another "
                         "folder, or delete it to build it anew")


@contextlib.contextmanager
def _intact(path):
    """Whatever is wrong with a file of the cache is one line about `path`."""
    try:
        yield path
    except OSError as error:
        raise Problem(f"{path} cannot be used: {error.strerror}: delete {path.parent} to build it anew") from error
    except ValueError as error:
        raise Problem(f"{path} cannot be used: {error}: delete {path.parent} to build it anew") from error
