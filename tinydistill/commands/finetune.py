"""`tinydistill finetune`: supervised training on a task."""

from tinydistill import architectures, hub, tasks
from tinydistill.commands import common, grid
from tinydistill.data import inputs, tokenizer as tokenizers
from tinydistill.methods import bert
from tinydistill.training import evaluation
from tinydistill.training.loop import Phase

HELP = "fine-tune a model on a task"


def arguments(parser):
    parser.add_argument("--task", required=True, metavar="T", help="see `tinydistill tasks`")
    parser.add_argument("--model", required=True, metavar="DIR", help="checkpoint or run directory")
    parser.add_argument("--data", metavar="DIR", help="the task's files; embedded tasks need none")
    parser.add_argument("--epochs", type=common.positive, metavar="N",
                        help="times the training set is read (default 3); --max-steps ends earlier")
    parser.add_argument("--from-scratch", action="store_true",
                        help="the control: the same architecture and tokenizer with freshly drawn weights")
    grid.flag(parser, ", ".join(bert.GRIDS))
    common.training_flags(parser)


def run(args):
    return grid.search(args, finetune, published=bert.GRIDS) if args.grid else finetune(args)


def finetune(args):
    """One run."""
    stage = bert.finetune
    model_path = hub.located(args.model, "a model")
    tokenizer = tokenizers.load(model_path)
    task, splits = tasks.get(args.task).open(args.data)
    model = hub.read(model_path, head=task.kind, labels=task.labels, seed=args.seed)
    recipe = common.recipe_of(args, stage, rows=len(splits["train"]), positions=model.config.longest)
    batches = inputs.labelled(splits["train"], tokenizer, recipe, args.seed)
    model = common.placed(args, architectures.build(model.config, args.seed) if args.from_scratch else model)
    common.say(args, f"{model.config} on {len(splits['train']):,} examples of {task.name}, {recipe.steps:,} steps")
    model, (metrics,) = common.carry_out(
        args, {"task": task.name, "model": args.model, "model_sha256": hub.fingerprint(model_path), "data": args.data,
               "from_scratch": args.from_scratch, "rows": len(splits["train"])},
        model, [Phase(stage, recipe, batches.at)], tokenizer=tokenizer)
    scores = {split: score(task, model, examples, tokenizer, recipe, args)
              for split, examples in splits.items() if split.startswith("dev")}
    return {"output": args.output, "task": task.name, **metrics, **scores}


def score(task, model, examples, tokenizer, recipe, args):
    """The task's metrics of a model on examples."""
    batches = inputs.labelled(examples, tokenizer, recipe, 0)
    return task.score(evaluation.logits(model, batches), batches.labels)


def text(result):
    if "grid" in result:
        return grid.text(result)
    lines = [f"{name}: {common.pretty(scores)}" for name, scores in result.items() if name.startswith("dev")]
    return "\n".join(lines + [f"the model is in {result['output']}: try tinydistill predict --model {result['output']}"])
