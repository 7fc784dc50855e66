"""`tinydistill verify --checkpoint DIR --against DIR_OR_FILE`: are two models one, and if not, from which layer on?

Both read the same ids, and their features are compared in the order in which they are computed: embeddings, of each
layer queries, keys, values, scores and hidden states, then what the head makes of the last. FILE is a .npz or
.safetensors with the features of another program: `embeddings`, `hidden` (or hidden_0, hidden_1 ...; the first of one
too many is the embeddings), scores, logits ..., and the `ids`, `mask` and `token_types` that they were computed of.

The rule is the kit's: |difference| <= 32 u kappa. The first model gives kappa, in float64: the largest of 4 max|x|, of
how far x moves when every weight moves by up to a unit of float32, and of how far float32 is off, in those units.
Parameters are judged alike, with kappa = 4 max|x|: weights that these ids do not reach count, too.

Exit codes: 0 equal, 1 not, 2 wrong usage.
"""

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinydistill import hub
from tinydistill.commands.verify_ids import shown_ids
from tinydistill.commands.verify_models_report import ORDER, RUNS, SHOWN, Report, Side
from tinydistill.errors import WrongUsage
from tinydistill.features import PER_LAYER, PER_MODEL, Batch, Needs, Pass
from tinydistill_reference import saved
from tinydistill_reference.tolerance import DTYPES, UNITS, compare
from tinydistill_reference.words import listed, many

SIZES = ("vocabulary", "layers", "hidden", "heads")
NOT_COMPUTED_WITH = ("dropout", "initial", "labels", "head", "pooler")  # settings that features do not depend on


# ---------------------------------------------------------------- the comparison

def compare_models(first, second, text=None, seed=0, quiet=True):
    """The Report on a checkpoint directory and another, or a file of features.

    text: one, or several, that both read; without it the ids are the file's, or those of two built-in pairs of
    sentences. Where the two have no tokenizer in common they are drawn from `seed`.
    """
    model = hub.read(hub.located(first), head="any")
    if Path(second).suffix in (".npz", ".safetensors"):
        dumped, batch = _dumped(second, model.config)
        if text is not None:
            raise WrongUsage(f"need either --text or a file, which says what it was computed of: {second}")
        mine, kappa = _measured(first, model, batch, quiet)
        other = _as_side(second, dumped, mine, batch)
        return _report(mine, other, kappa, f"{_sequences(batch)}: the ids in {second}")
    theirs = hub.read(hub.located(second), head="any")
    _same_size((first, model.config), (second, theirs.config))
    batch, words = shown_ids((hub.located(first), hub.located(second)), (model.config, theirs.config), text, seed)
    mine, kappa = _measured(first, model, batch, quiet)
    del model
    other = Side(str(second), _title(theirs), _dtype(theirs), {}, theirs.config, theirs.arrays())
    other.features = _features(theirs.to(np, np.float64), batch)
    return _report(mine, other, kappa, f"{_sequences(batch)}: {words}")


def _report(mine, other, kappa, ids):
    dtype = max(mine.dtype, other.dtype, key=DTYPES.index) if other.config else other.dtype
    notes = []
    if apart := sorted({f for f, _ in mine.features.keys() ^ other.features.keys()}):
        notes.append(f"not compared, as one side has none: {', '.join(apart)}")
    compared = {}
    for place in _places(mine.features.keys() & other.features.keys()):
        if mine.features[place].shape != other.features[place].shape and place[1] is None:
            shapes = " and ".join(str(s.features[place].shape) for s in (mine, other))
            notes.append(f"not compared, as they have other shapes: {place[0]}, {shapes}")
        else:
            compared[place] = compare(place[0], other.features[place], mine.features[place], kappa[place], dtype)
    if not compared:
        raise WrongUsage(f"need a feature that both have: {mine.name} has {_fields(mine)}, {other.name} has "
                         f"{_fields(other)}")
    if not other.config:
        return Report(mine, other, ids, dtype, compared, notes=tuple(notes))
    parameters = {}
    for name in mine.parameters.keys() & other.parameters.keys():
        a, b = mine.parameters[name], other.parameters[name]
        if a.shape != b.shape or (a != b).any():
            parameters[name] = compare(name, b, a.astype(np.float64), 4 * float(np.abs(a).max(initial=0)), dtype)
    for one, two in ((mine, other), (other, mine)):
        if only := [name for name in one.parameters if name not in two.parameters]:
            notes.append(f"only {one.name} has {listed(only, SHOWN)}")
    settings = {name: (value, other.config.as_dict().get(name)) for name, value in mine.config.as_dict().items()
                if value != other.config.as_dict().get(name) and not any(w in name for w in NOT_COMPUTED_WITH)}
    in_order = {name: parameters[name] for name in mine.parameters if name in parameters}
    return Report(mine, other, ids, dtype, compared, in_order, settings, tuple(notes))


def _fields(side):
    return ", ".join(dict.fromkeys(field for field, _ in _places(side.features))) or "none"


def _places(places):
    """In the order in which they are computed."""
    def at(place):
        name, layer = place
        if layer is not None:
            return 1, layer, ORDER.index(name)
        return (0, 0, 0) if name == "embeddings" else (2, 0, PER_MODEL.index(name))
    return sorted(places, key=at)


def _same_size(first, second):
    (one, a), (two, b) = first, second
    apart = [name for name in SIZES if getattr(a, name) != getattr(b, name)]
    if apart:
        told = (f"{name}: {of} has {', '.join(f'{getattr(config, n):,} {n}' for n in apart)}"
                for name, of, config in ((one, a, a), (two, b, b)))
        raise WrongUsage("need two models of one size and vocabulary to compare them layer by layer; "
                         + "; ".join(told))


# ---------------------------------------------------------------- the sides

def _measured(name, model, batch, quiet):
    """(Side, kappa {place: number}) of the first model."""
    stored, dtype = {n: x.copy() for n, x in model.arrays().items()}, _dtype(model)
    side = Side(str(name), _title(model), dtype, _features(model.to(np, np.float64), batch), model.config, stored)
    kappa = {place: 4 * float(np.abs(x).max(initial=0)) for place, x in side.features.items()}
    random = np.random.default_rng(0)
    for run in tqdm(range(RUNS + 1), "kappa", disable=quiet, delay=2, leave=False):
        for parameter_name, parameter in model.named_parameters().items():
            if parameter.dtype.kind == "f":         # whole numbers of a quantised model stay
                x = stored[parameter_name].astype(np.float64)
                step = random.integers(-1, 2, x.shape, np.int8) if run < RUNS else 0
                parameter.array = np.asarray(x + np.spacing(np.abs(x).astype(np.float32)) * step)
        moved = _features(model if run < RUNS else model.to(np, np.float32), batch)
        for place, x in side.features.items():
            kappa[place] = max(kappa[place], float(np.abs(moved[place] - x).max(initial=0)) * 2.0 ** 24)
    return side, kappa


def _features(model, batch):
    """{(field, layer): array in float64, 0 at padding} of all that the model computes."""
    config = model.config
    wanted = {name: range(config.layers) for name in PER_LAYER if name in config.features}
    there = {"embeddings": True, "pooled": config.pooler, "logits": config.head != "none",
             "next_sentence": config.head == "pretraining"}
    wanted |= {name: True for name, is_there in there.items() if is_there and name in config.features}
    if not wanted:
        raise WrongUsage(f"need a model that computes something: {config} without a head has no features")
    found = model(batch, Pass(Needs.of(**wanted)))
    places = {(name, l): x for name in PER_LAYER for l, x in getattr(found, name).items()} | \
        {(name, None): getattr(found, name) for name in PER_MODEL if getattr(found, name) is not None}
    return {place: _real(place[0], _by_tokens(place[0], x.array.astype(np.float64), batch.mask), batch.mask)
            for place, x in places.items()}


def _by_tokens(name, x, mask):
    """Logits of all tokens as (B, T, V)."""
    return x.reshape(*mask.shape, -1) if name == "logits" and len(x) == mask.size != len(mask) else x   # (B*T, V)


def _real(name, x, mask):
    """The array with 0 where padding is, which nobody reads."""
    if name == "scores":
        return np.where((mask[:, :, None] & mask[:, None, :])[:, None], x, 0.0)         # (B, 1, T, T)
    if name in ("queries", "keys", "values"):
        return np.where(mask[:, None, :, None], x, 0.0)
    return np.where(mask[..., None], x, 0.0) if x.shape[:2] == mask.shape and x.ndim == 3 else x


def _dtype(model):
    return str(next(p.dtype for p in model.parameters() if p.dtype.kind == "f"))


def _title(model):
    return f"{model.config}, {sum(p.size for p in model.arrays().values()):,} parameters in {_dtype(model)}"


def _sequences(batch):
    lengths = [str(n) for n in batch.mask.sum(axis=1)]
    return f"{many(len(lengths), 'sequence')} of {listed(lengths)} tokens"


# ---------------------------------------------------------------- features from a file

def _dumped(path, config):
    """(Saved, the Batch that it was computed of)."""
    try:
        found = saved.understood(saved.read(path), [*PER_LAYER, *PER_MODEL, "ids", "mask", "token_types"])
    except saved.Unusable as problem:
        raise WrongUsage(str(problem)) from None
    if "ids" not in found.inputs:
        raise WrongUsage(f"need the ids that {path} was computed of: an array `ids` (B, T)")
    given = {name: np.atleast_2d(found.inputs[name]) for name in ("ids", "mask", "token_types") if name in found.inputs}
    ids = given["ids"].astype(np.int64)
    if any(x.shape != ids.shape for x in given.values()):
        raise WrongUsage("need ids, mask and token_types of one shape (B, T), got "
                         + ", ".join(f"{name} {x.shape}" for name, x in given.items()))
    if ids.min(initial=0) < 0 or ids.max(initial=0) >= config.vocabulary:
        raise WrongUsage(f"need ids from 0 to {config.vocabulary - 1:,}, the vocabulary of {config}; got {ids.max():,}")
    types = given["token_types"].astype(np.int64) if "token_types" in given else None
    return found, Batch(ids, given.get("mask", np.ones(ids.shape, bool)), types, rows=np.arange(len(ids)))


def _as_side(path, found, mine, batch):
    """What the file holds, laid out as the model's features are."""
    depth, features = mine.config.layers, {}
    inputs = {name: x for name, x in found.inputs.items() if name in PER_LAYER + PER_MODEL}
    for name, x in inputs.items():
        if name not in PER_LAYER:
            features[name, None] = x
            continue
        if name == "hidden" and len(x) == depth + 1:
            features.setdefault(("embeddings", None), inputs.get("embeddings", x[0]))
            x = x[1:]
        if len(x) != depth:
            raise WrongUsage(f"need {name} of all {depth} layers of {mine.config}"
                             f"{', and the embeddings before them if you like' * (name == 'hidden')}; got {len(x)}")
        features |= {(name, l): layer for l, layer in enumerate(x)}
    for place, x in features.items():
        want = mine.features.get(place)
        x = _by_tokens(place[0], x.reshape(want.shape) if want is not None and x.size == want.size else x, batch.mask)
        if want is not None and x.shape != want.shape:
            raise WrongUsage(f"need models of one size: {place[0]} in {path} has shape {x.shape}, and {mine.config} "
                             f"makes it {want.shape}")
        features[place] = _real(place[0], x, batch.mask)
    dtypes = {x.dtype.name for name, x in saved.read(path).items() if name not in found.unread} & UNITS.keys()
    dtype = max(dtypes, key=DTYPES.index, default="float32")
    return Side(str(path), f"features in {dtype}", dtype, features)


# ---------------------------------------------------------------- the command

def run(args):
    """Print the report and return the exit code. args: checkpoint, against, and json, text and quiet where they are."""
    report = compare_models(args.checkpoint, args.against, getattr(args, "text", None),
                            quiet=getattr(args, "quiet", False))
    to, document = getattr(args, "json", None), json.dumps(report.document(), indent=1) + "\n"
    print(document if to == "-" else "\n".join(report.lines()) + "\n", end="")
    if to not in (None, "-"):
        Path(to).write_text(document, encoding="utf-8")
    return report.exit_code
