"""`tinydistill params SIZE`: exact parameter counts by part."""

from tinydistill import architectures
from tinydistill.commands import common
from tinydistill.students.architecture import counted
from tinydistill.students.configs import CLASSIFIERS, HEADS

HELP = "count the parameters of a size, part by part"


def arguments(parser):
    parser.add_argument("size", metavar="SIZE",
                        help="LxH, LxHxA, a published name, or another architecture's PREFIX-LxH")
    parser.add_argument("--vocabulary", type=common.positive, metavar="N", help="instead of the size's own")
    parser.add_argument("--head", choices=HEADS, default="none", help="default none")
    parser.add_argument("--classes", type=common.positive, metavar="C", default=2,
                        help="of a head with classes (default 2)")
    parser.add_argument("--length", type=common.positive, metavar="T", default=128,
                        help="tokens of the sequence whose forward is counted (default 128)")


def run(args):
    config = architectures.parse(args.size)
    config = config.but(head=args.head, labels=tuple(map(str, range(args.classes))) if args.head in CLASSIFIERS else (),
                        **({"vocabulary": args.vocabulary} if args.vocabulary else {}))
    architecture = architectures.of(config)
    counts = architecture.parameter_count(config)
    shape = {"size": args.size, "architecture": architecture.title, "layers": config.layers, "hidden": config.hidden,
             "heads": config.heads, "feed_forward": config.feed_forward, "vocabulary": config.vocabulary}
    result = {**shape, "parts": counts, "length": args.length,
              "forward_flops": round(architecture.forward_flops(config, args.length))}
    if args.size in architectures.SIZES:
        size = architectures.SIZES[args.size]
        result |= {"paper": size.paper, "counted": size.counted,
                   "counted_as_published": counted(architecture.parameter_count, config, size.counted)}
    else:
        result |= {"counted": "words and layers", "counted_as_published":
                   counted(architecture.parameter_count, config, "words and layers")}
    return result


def text(result):
    rows = [{"part": name, "parameters": count} for name, count in result["parts"].items()]
    rows.append({"part": f"{result['counted']}, as {result.get('paper', 'MiniLM')} counts",
                 "parameters": result["counted_as_published"]})
    rows.append({"part": f"FLOPs of one forward of {result['length']} tokens", "parameters": result["forward_flops"]})
    return (f"{result['size']}: {result['architecture']}, {result['layers']} layers, {result['hidden']} hidden, "
            f"{result['heads']} heads, feed-forward {result['feed_forward']}\n"
            + common.table(rows, ("part", "parameters")))
