"""`tinydistill export`: a model as a directory that transformers opens."""

from tinydistill import hub
from tinydistill.commands import common
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import NothingToDo, WrongUsage
from tinydistill.hub_names import FORMS, refusal

HELP = "write a model as a directory that transformers opens"


def arguments(parser):
    parser.add_argument("--model", required=True, metavar="DIR", help="checkpoint or run directory")
    parser.add_argument("--output", required=True, metavar="DIR", help="a directory that holds no model yet")
    parser.add_argument("--format", choices=("hf",), default="hf", help="Hugging Face's (default hf)")
    parser.add_argument("--head", choices=("any", "none"), default="any",
                        help="any: the model's own (default); none: its body")


def run(args):
    path = hub.located(args.model, "a model")
    model = hub.read(path, head=args.head)
    reason = refusal(model.config)
    if reason:
        raise WrongUsage(f"transformers cannot express {model.config}: {reason}; "
                         f"{args.model} is read by tinydistill alone")
    if hub.exists(args.output):
        raise NothingToDo(f"{args.output} holds a model already")
    hub.write(model, args.output, tokenizers.load(path))
    architecture = FORMS[model.config.model_type].table.ARCHITECTURES[model.config.head]
    return {"output": args.output, "architecture": architecture, "model": str(model.config),
            "parameters": sum(array.size for array in model.arrays().values()), "sha256": hub.fingerprint(args.output)}


def text(result):
    return (f"{result['model']}, {common.pretty({'parameters': result['parameters']})}, as {result['architecture']}: "
            f"transformers.{result['architecture']}.from_pretrained({result['output']!r})")
