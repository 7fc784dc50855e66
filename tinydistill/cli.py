"""The command line: arguments in, one result out, and errors in one line.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 nothing to do, 130/143 stopped by a signal after saving.
With --json stdout is one JSON document and nothing else; progress and messages go to stderr.
"""

import argparse
import importlib
import json
import sys

from tinydistill import __version__
from tinydistill.commands import COMMANDS
from tinydistill.errors import Problem


def parser():
    """The whole command line as an argparse parser."""
    whole = argparse.ArgumentParser(prog="tinydistill", description="Transformer distillation, small enough to read.")
    whole.add_argument("--version", action="version", version=f"tinydistill {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = importlib.import_module(f"tinydistill.commands.{name}")
        sub = commands.add_parser(name, help=command.HELP, description=command.HELP)
        if not getattr(command, "OWN_OUTPUT", False):
            sub.add_argument("--json", action="store_true", help="print one JSON document on stdout")
        command.arguments(sub)
        sub.set_defaults(run=command.run, text=getattr(command, "text", None))
    return whole


def main(arguments=None):
    """Run one command; returns its exit code."""
    args = parser().parse_args(arguments)
    try:
        result = args.run(args)
        if args.text is None:
            return result
        print(json.dumps(result, indent=2) if args.json else args.text(result))
    except Problem as problem:
        print(f"tinydistill {args.command}: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print(f"tinydistill {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:                         # the reader of our output has gone, as in `| head`
        sys.stderr.close()
        return 1
    return 0
