"""What several commands share: flags, tables, and the one way in which a training run is carried out."""

import argparse
import sys
from pathlib import Path

from tinydistill import backend, hub, kernels, report
from tinydistill.data.inputs import MASKINGS
from tinydistill.errors import NothingToDo, Problem, WrongUsage
from tinydistill.training.loop import train_phases
from tinydistill.training.optimizers import OPTIMIZERS
from tinydistill.training.schedules import SCHEDULES


def machine_flags(parser):
    """Where and how the numbers are computed."""
    group = parser.add_argument_group("machine")
    group.add_argument("--backend", choices=("numpy", "cupy"), default="numpy", help="array library (default numpy)")
    group.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default float32")
    group.add_argument("--kernels", choices=("fused", "plain"), default="fused",
                       help="plain is the specification, fused is faster (default fused)")
    group.add_argument("--quiet", action="store_true", help="no progress on stderr")


def training_flags(parser):
    """How a model is trained; what is left out comes from the recipe."""
    parser.add_argument("--output", required=True, metavar="DIR", help="run directory: empty, or with --resume")
    group = parser.add_argument_group("training")
    group.add_argument("--recipe", choices=("laptop", "paper", "official"), default="laptop",
                       help="hyper-parameters: at laptop size, as in the paper, or as in published code (default laptop)")
    group.add_argument("--max-steps", type=positive, metavar="N", help="optimiser steps; the schedule ends there")
    group.add_argument("--batch-size", type=positive, metavar="N")
    group.add_argument("--max-length", type=positive, metavar="N", help="tokens a sequence, [CLS] and [SEP] included")
    group.add_argument("--lr", type=positive_float, metavar="RATE", help="peak learning rate")
    group.add_argument("--warmup", type=natural, metavar="N", help="steps")
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="default: the recipe's")
    group.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate (default: the recipe's)")
    group.add_argument("--layer-decay", type=positive_float, metavar="F",
                       help="the rate of each layer is that of the layer above times this (default 1)")
    group.add_argument("--seed", type=natural, default=0, metavar="N")
    group.add_argument("--shards", type=positive, default=1, metavar="N",
                       help="parts of a batch that are differentiated one by one and summed in order (default 1)")
    group.add_argument("--threads", type=positive, default=1, metavar="N", help="shards at a time (default 1)")
    group.add_argument("--save-every", type=positive, default=100, metavar="N", help="steps (default 100)")
    group.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    machine_flags(parser)


def text_flags(parser, mask_rate):
    """What the rows of a corpus are made into."""
    parser.add_argument("--corpus", default="stdlib", metavar="C", help="see `tinydistill corpora` (default stdlib)")
    parser.add_argument("--pairs", action="store_true",
                        help="pack the corpus's documents into sentence pairs, as BERT does, not its rows one by one")
    parser.add_argument("--masking", choices=MASKINGS,
                        help="which tokens are hidden: bert, each for itself; counted, the published fixed count a "
                             "row; one, a single token a row; frequency, rare ones more often (default bert, or what "
                             "the convention has)")
    parser.add_argument("--mask-rate", type=positive_float, metavar="P", default=mask_rate,
                        help=f"share of tokens to hide (default {mask_rate}; BERT: 0.15)")


def positive(text):
    """An integer of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"need a whole number of at least 1, got {text!r}")
    return int(text)


def natural(text):
    """An integer of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"need a whole number of at least 0, got {text!r}")
    return int(text)


def positive_float(text):
    """A number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"need a number above 0, got {text!r}")
    return number


def recipe_of(args, stage, rows=None, positions=None):
    """The stage's recipe with what the command line says about it; a stage without one of that name has the paper's.

    rows: how many it reads, which turns its epochs into steps. positions: how many tokens the models take at most: a
    longer sequence is cut there, unless --max-length asks for it, which is an error.
    """
    recipe = stage.recipes.get(args.recipe, stage.recipes["paper"])
    if positions is not None and (args.max_length or 0) > positions:
        raise WrongUsage(f"need a --max-length of at most the model's {positions} positions, got {args.max_length}")
    recipe = recipe.but(batch_size=args.batch_size, learning_rate=args.lr, optimizer=args.optimizer,
                        schedule=args.schedule, layer_decay=args.layer_decay,
                        max_length=args.max_length or min(recipe.max_length, positions or recipe.max_length),
                        epochs=getattr(args, "epochs", None) if recipe.epochs else None)
    steps = args.max_steps
    if recipe.epochs and rows is not None:
        whole = recipe.epochs * -(-rows // recipe.batch_size)
        steps = min(steps or whole, whole)
    return recipe.but(steps=steps, warmup=args.warmup)


def placed(args, model):
    """The model on the backend and in the dtype that were asked for."""
    kernels.choose(args.kernels)
    return model.to(backend.load(args.backend), args.dtype)


def carry_out(args, run, model, phases, *, output=None, resume=None, projections=None, tokenizer=None):
    """Train through phases in a run directory and leave the finished model at its top.

    run: everything needed to repeat the run, for run.json. output, resume: instead of --output and --resume.
    Returns (the model at the end, the last metrics of each phase).
    Raises: NothingToDo where the directory holds the finished model already.
    """
    output, resume = output or args.output, args.resume if resume is None else resume
    from tinydistill.training.run_directory import RunDirectory
    from tinydistill.training.signals import StopRequest

    if args.threads > 1:
        backend.set_blas_threads(1)                 # the shards are the parallelism
    recipes = [phase.recipe.as_dict() for phase in phases]
    run = {"command": args.command, **run, **({"recipe": recipes[0]} if len(phases) == 1 else
                                              {"recipes": {p.stage.name: r for p, r in zip(phases, recipes)}}),
           "seed": args.seed, "shards": args.shards, "dtype": args.dtype, "backend": args.backend, "kernels": args.kernels}
    with RunDirectory.create(output, run, resume) as directory, StopRequest() as stop:
        if (directory.path / "model.safetensors").exists():
            raise NothingToDo(f"{output} is finished: all {sum(p.recipe.steps for p in phases)} steps are done")
        model, metrics = train_phases(model, phases, projections=projections, directory=directory, seed=args.seed,
                                      shards=args.shards, threads=args.threads, save_every=args.save_every, stop=stop,
                                      quiet=args.quiet)
        hub.write(model, directory.path, tokenizer)
        try:
            report.write(directory.path / "report.html", report.run_page(directory.path))
        except Problem as missing:                  # matplotlib is an extra
            say(args, f"no report.html: {missing}")
    return model, metrics


def say(args, message):
    """One line on stderr, unless --quiet."""
    if not args.quiet:
        print(message, file=sys.stderr)


def table(rows, columns):
    """Rows of dicts as aligned text: columns are the keys, in order."""
    cells = [[str(column) for column in columns]] + [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def _cell(value):
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def require_directory(path, what):
    """A directory that must be there."""
    if not Path(path).is_dir():
        raise WrongUsage(f"need {what}: there is no directory {path}")
    return Path(path)


def pretty(numbers):
    """A dict of numbers as `name value` pairs in one line."""
    return "  ".join(f"{name} {_cell(value)}" for name, value in numbers.items())

