"""`tinydistill finetune`: supervised training on a task."""

from tinydistill import hub, tasks
from tinydistill.commands import common
from tinydistill.data import inputs, tokenizer as tokenizers
from tinydistill.methods import bert
from tinydistill.students.bert import Bert
from tinydistill.training import evaluation

HELP = "fine-tune a model on a task"


def arguments(parser):
    parser.add_argument("--task", required=True, metavar="T", help="see `tinydistill tasks`")
    parser.add_argument("--model", required=True, metavar="DIR", help="checkpoint or run directory")
    parser.add_argument("--data", metavar="DIR", help="the task's files; embedded tasks need none")
    parser.add_argument("--epochs", type=common.positive, default=bert.EPOCHS, metavar="N",
                        help=f"times the training set is read (default {bert.EPOCHS}); --max-steps ends earlier")
    parser.add_argument("--from-scratch", action="store_true",
                        help="the control: the same architecture and tokenizer with freshly drawn weights")
    common.training_flags(parser)


def run(args):
    task = tasks.get(args.task)
    stage = bert.finetune
    model_path = common.require_directory(args.model, "a model")
    tokenizer = tokenizers.load(model_path)
    splits = task.load(args.data)
    recipe = stage.recipes[args.recipe]
    batch_size = args.batch_size or recipe.batch_size
    whole = args.epochs * -(-len(splits["train"]) // batch_size)
    args.max_steps = min(args.max_steps or whole, whole)
    recipe = common.recipe_of(args, stage)
    batches = inputs.labelled(splits["train"], tokenizer, recipe, args.seed)
    model = hub.read(model_path, head=task.kind, labels=task.labels, seed=args.seed)
    model = common.placed(args, Bert(model.config, args.seed) if args.from_scratch else model)
    common.say(args, f"{model.config} on {len(splits['train']):,} examples of {task.name}, {recipe.steps:,} steps")
    metrics = common.carry_out(
        args, {"task": task.name, "model": args.model, "model_sha256": hub.fingerprint(model_path), "data": args.data,
               "from_scratch": args.from_scratch, "rows": len(splits["train"])},
        model, stage, recipe, batches.at, tokenizer=tokenizer)
    scores = {split: score(task, model, examples, tokenizer, recipe, args)
              for split, examples in splits.items() if split == "dev"}
    return {"output": args.output, "task": task.name, **metrics, **scores}


def score(task, model, examples, tokenizer, recipe, args):
    """The task's metrics of a model on examples."""
    batches = inputs.labelled(examples, tokenizer, recipe, 0)
    return task.score(evaluation.logits(model, batches), batches.labels)


def text(result):
    lines = [f"{split}: {common.pretty(result[split])}" for split in ("dev", "test") if split in result]
    return "\n".join(lines + [f"the model is in {result['output']}: try tinydistill predict --model {result['output']}"])
