"""`tinydistill evaluate`: a task's official metrics."""

from tinydistill import hub, tasks
from tinydistill.commands import common
from tinydistill.commands.finetune import score
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.methods import bert
from tinydistill.training.ensemble import COMBINED, Ensemble

HELP = "measure a fine-tuned model on a task"


def arguments(parser):
    parser.add_argument("--task", required=True, metavar="T", help="see `tinydistill tasks`")
    parser.add_argument("--model", required=True, action="append", metavar="DIR",
                        help="a fine-tuned checkpoint or run directory; several are combined")
    parser.add_argument("--combined", choices=COMBINED, default="mean",
                        help="several models by the mean of their probabilities (default), or by the largest, as "
                             "BERT-Vision joins a BERT and its pooler")
    parser.add_argument("--data", metavar="DIR", help="the task's files; embedded tasks need none")
    parser.add_argument("--split", default="dev", metavar="S",
                        help="train, dev or test, and dev-mismatched of mnli (default dev)")
    parser.add_argument("--max-length", type=common.positive, metavar="N", help="tokens a sequence")
    common.machine_flags(parser)


def run(args):
    paths = [hub.located(path, "a model") for path in args.model]
    tokenizer = tokenizers.same(paths)
    task, splits = tasks.get(args.task).open(args.data)
    models = [common.placed(args, hub.read(path, head=task.kind, labels=task.labels, require_head=True))
              for path in paths]
    model = models[0] if len(models) == 1 else Ensemble(models, combined=args.combined)
    if args.split not in splits:
        raise WrongUsage(f"need a split that {task.name} has labels for ({', '.join(splits)}); got {args.split}")
    recipe = bert.finetune.recipes["laptop"]
    recipe = recipe.but(max_length=args.max_length or min(recipe.max_length, *(m.config.longest for m in models)))
    scores = score(task, model, splits[args.split], tokenizer, recipe, args)
    return {"task": task.name, "model": args.model if len(models) > 1 else args.model[0], "split": args.split,
            "examples": len(splits[args.split]), **scores}


def text(result):
    scores = {name: value for name, value in result.items() if name not in ("task", "model", "split", "examples")}
    return f"{result['task']} {result['split']} ({result['examples']:,} examples): {common.pretty(scores)}"
