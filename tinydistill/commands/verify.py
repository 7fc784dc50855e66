"""`tinydistill verify`: the conformance kit, on somebody's implementation, on saved numbers, or on two checkpoints."""

from tinydistill.errors import WrongUsage
from tinydistill_reference import cli

HELP = "check an implementation of a loss against the vectors, and say what is wrong with it"
OWN_OUTPUT = True                                   # it prints and returns an exit code: 0 passed, 1 failed, 3 nothing


def arguments(parser):
    cli.arguments(parser)
    models = parser.add_argument_group("two models")
    models.add_argument("--checkpoint", metavar="DIR", help="a model to compare, layer by layer")
    models.add_argument("--against", metavar="DIR_OR_FILE", help="with another one, or with saved hidden states")
    models.add_argument("--text", metavar="TEXT", help="what both models read (default: two sentences of our own)")


def run(args):
    if args.checkpoint or args.against:
        if not (args.checkpoint and args.against):
            raise WrongUsage("need both --checkpoint DIR and --against DIR_OR_FILE")
        from tinydistill.commands import verify_models
        return verify_models.run(args)
    try:
        return cli.run(args)
    except (cli.WrongUsage, ValueError) as problem:
        raise WrongUsage(str(problem)) from problem
