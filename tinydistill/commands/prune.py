"""`tinydistill prune`: takes the least important attention heads out of a fine-tuned model."""

from tinydistill import architectures, hub, tasks
from tinydistill.commands import common
from tinydistill.commands.distill import shared_out
from tinydistill.commands.finetune import score
from tinydistill.compress import michel as heads
from tinydistill.compress.pruned_bert import pruned
from tinydistill.data import inputs, tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.methods import michel
from tinydistill.training.loop import Phase

HELP = "take the least important attention heads out of a fine-tuned model"


def arguments(parser):
    parser.add_argument("--task", required=True, metavar="T", help="see `tinydistill tasks`")
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned checkpoint or run directory")
    parser.add_argument("--data", metavar="DIR", help="the task's files; embedded tasks need none")
    parser.add_argument("--keep", type=share, default=0.5, metavar="P", help="share of heads that stays (default 0.5)")
    parser.add_argument("--step", type=share, default=heads.STEP, metavar="P",
                        help=f"share of all heads that goes at a time (default {heads.STEP})")
    parser.add_argument("--importance", choices=heads.VERSIONS, default="example",
                        help="absolute values of gradients of a head's gate by example (the paper), by token, or "
                             "of the sum over all examples, as in two published codes (default example)")
    parser.add_argument("--one-a-layer", action="store_true", help="let every layer keep its most important head")
    parser.add_argument("--score-batches", type=common.positive, metavar="N",
                        help="batches of the training set that heads are scored on (default: all)")
    parser.add_argument("--epochs", type=common.natural, default=1, metavar="N",
                        help="times the training set is read after each step (default 1; 0: nothing is trained)")
    common.training_flags(parser)


def share(text):
    """A number from 0 to 1."""
    return 0.0 if text in ("0", "0.0") else common.positive_float(text)


def run(args):
    path = hub.located(args.model, "a model")
    tokenizer = tokenizers.load(path)
    task, splits = tasks.get(args.task).open(args.data)
    model = hub.read(path, head=task.kind, labels=task.labels, require_head=True)
    pruned(model, {})                               # an architecture that has no heads to take out says so now
    rows, positions = len(splits["train"]), model.config.longest
    recipe = common.recipe_of(args, michel.finetune, rows, positions)
    batches = inputs.labelled(splits["train"], tokenizer, recipe, args.seed)
    model = common.placed(args, model)
    before = dev_scores(task, model, splits, tokenizer, recipe, args)

    scored = map(batches.at, range(min(len(batches), args.score_batches or len(batches))))
    scores = heads.importance(model, scored, michel.loss, michel.needs, args.importance)
    steps = heads.steps(scores, args.keep, args.step, args.one_a_layer)
    if not steps:
        raise WrongUsage(f"need a share of heads to keep that takes some out: {sum(map(len, scores))} heads stay at "
                         f"--keep {args.keep:g}")
    common.say(args, f"{sum(len(h) for step in steps for h in step.values())} of {sum(map(len, scores))} heads of "
                     f"{model.config} go in {len(steps)} steps")
    student, phases = model, []
    if args.epochs == 0:
        for step in steps:
            student = pruned(student, step)
    else:
        phases = [Phase(stage, recipe, batches.at, None, lambda student, step=step: pruned(student, step))
                  for step, stage, recipe in zip(steps, michel.stages(len(steps)),
                                                 shared_out([recipe] * len(steps), args.max_steps))]
    student, metrics = common.carry_out(
        args, {"task": task.name, "model": args.model, "model_sha256": hub.fingerprint(path), "data": args.data,
               "keep": args.keep, "step": args.step, "importance": args.importance, "one_a_layer": args.one_a_layer,
               "epochs": args.epochs, "steps": [{str(l): list(gone) for l, gone in step.items()} for step in steps]},
        student, phases, tokenizer=tokenizer)
    return {"output": args.output, "task": task.name, **(metrics[-1] if metrics else {}),
            "heads": list(student.config.heads_kept), "parameters": size(student), "parameters_before": size(model),
            "before": before, **dev_scores(task, student, splits, tokenizer, recipe, args)}


def size(model):
    """The number of its parameters."""
    return architectures.parameter_count(model.config)["total"]


def dev_scores(task, model, splits, tokenizer, recipe, args):
    """{split: the task's metrics} of every dev split."""
    return {split: score(task, model, examples, tokenizer, recipe, args)
            for split, examples in splits.items() if split.startswith("dev")}


def text(result):
    lines = [f"heads of each layer: {' '.join(map(str, result['heads']))}",
             f"parameters: {result['parameters_before']:,} -> {result['parameters']:,}"]
    lines += [f"{split}: {common.pretty(before)} -> {common.pretty(result[split])}"
              for split, before in result["before"].items()]
    output = result["output"]
    return "\n".join(lines + [f"the model is in {output}: try tinydistill predict --model {output}"])
