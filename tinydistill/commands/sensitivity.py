"""`tinydistill sensitivity`: how much each layer of a fine-tuned BERT minds being rounded, and bits for each."""

import numpy as np

from tinydistill import hub, tasks
from tinydistill.commands import common
from tinydistill.compress import qbert
from tinydistill.data import inputs, tokenizer as tokenizers
from tinydistill.features import Needs, Pass
from tinydistill.losses.hard_labels import classes
from tinydistill.methods import bert

HELP = "measure how much each layer minds being rounded (Q-BERT's Hessian), and choose bits for --method q-bert"


def arguments(parser):
    parser.add_argument("--task", required=True, metavar="T", help="see `tinydistill tasks`")
    parser.add_argument("--model", required=True, metavar="DIR", help="a fine-tuned checkpoint or run directory")
    parser.add_argument("--data", metavar="DIR", help="the task's files; embedded tasks need none")
    parser.add_argument("--bits", type=common.positive_float, default=4.0, metavar="B",
                        help="mean bits of a layer that are given out (default 4)")
    parser.add_argument("--batches", type=common.positive, default=5, metavar="N",
                        help="subsets of the training set, over which the mean and the spread are taken (default 5)")
    parser.add_argument("--batch-size", type=common.positive, default=32, metavar="N", help="rows of one (default 32)")
    parser.add_argument("--max-length", type=common.positive, metavar="N", help="tokens a sequence")
    parser.add_argument("--seed", type=common.natural, default=0, metavar="N")


def run(args):
    path = hub.located(args.model, "a model")
    tokenizer = tokenizers.load(path)
    task, splits = tasks.get(args.task).open(args.data)
    model = hub.read(path, head=task.kind, labels=task.labels, require_head=True)
    recipe = bert.finetune.recipes["laptop"].but(batch_size=args.batch_size)
    recipe = recipe.but(max_length=min(args.max_length or recipe.max_length, model.config.longest))
    rows = inputs.labelled(splits["train"], tokenizer, recipe, args.seed)
    subsets = [rows.at(step) for step in range(min(args.batches, len(rows)))]
    omegas = qbert.sensitivity(model.to(np, "float64"), loss, subsets, args.seed)
    bits = qbert.allocate(omegas, args.bits)
    return {"model": args.model, "task": task.name, "rows": sum(map(len, subsets)), "subsets": len(subsets),
            "layers": [{"layer": l, "sensitivity": omega, "bits": b} for l, (omega, b) in enumerate(zip(omegas, bits))],
            "bits": ",".join(map(str, bits))}


def loss(model, batch):
    """The mean cross-entropy of a batch, without dropout."""
    return classes(model(batch, Pass(Needs.of(logits=True))), None, batch, classes.divisor(batch))


def text(result):
    return (common.table(result["layers"], ("layer", "sensitivity", "bits"))
            + f"\ntry tinydistill distill --method q-bert --set bits={result['bits']} --teacher {result['model']}")
