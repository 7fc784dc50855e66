"""`tinydistill params SIZE`: exact parameter counts by part."""

from tinydistill.commands import common
from tinydistill.students.bert import parameter_count
from tinydistill.students.configs import parse

HELP = "count the parameters of a size, part by part"


def arguments(parser):
    parser.add_argument("size", metavar="SIZE", help="LxH, LxHxA or a published name")
    parser.add_argument("--vocabulary", type=common.positive, metavar="N", help="instead of the size's own")
    parser.add_argument("--head", choices=("none", "masked-lm", "pretraining"), default="none", help="default none")


def run(args):
    config = parse(args.size).but(head=args.head)
    if args.vocabulary:
        config = config.but(vocabulary=args.vocabulary)
    counts = parameter_count(config)
    return {"size": args.size, "layers": config.layers, "hidden": config.hidden, "heads": config.heads,
            "feed_forward": config.feed_forward, "vocabulary": config.vocabulary, "parts": counts,
            "word embeddings and transformer": counts["word embeddings"] + counts["transformer"]}


def text(result):
    rows = [{"part": name, "parameters": count} for name, count in result["parts"].items()]
    rows.append({"part": "word embeddings + transformer, which MiniLM's tables count",
                 "parameters": result["word embeddings and transformer"]})
    return (f"{result['size']}: {result['layers']} layers, {result['hidden']} hidden, {result['heads']} heads, "
            f"feed-forward {result['feed_forward']}\n" + common.table(rows, ("part", "parameters")))
