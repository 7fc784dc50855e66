"""Published code, checked: `python -m tinydistill_reference.examples`.

Exit codes: 0 every row is as its file expects, 1 some is not, 2 wrong usage, 3 nothing is installed.
"""

import argparse
import json
import sys

from tinydistill_reference.examples import published


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tinydistill_reference.examples",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("--package", nargs="+", choices=[p.name for p in published.PACKAGES], metavar="NAME",
                        help="these only: " + ", ".join(p.name for p in published.PACKAGES))
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON document")
    shape.add_argument("--markdown", action="store_true", help="the table of the README")
    args = parser.parse_args(argv)
    chosen = [p for p in published.PACKAGES if not args.package or p.name in args.package]
    found = []
    for row in published.rows(chosen):
        found.append(row)
        if not (args.json or args.markdown):
            print(published.line(row), flush=True)
    if args.json:
        print(json.dumps({"document": "tinydistill-published-1", "rows": found}, indent=1))
    if args.markdown:
        print("\n".join(published.markdown(found)))
    seen = [row["as_expected"] for row in found if row["status"] != "not installed"]
    return 3 if not seen else 0 if all(seen) else 1


if __name__ == "__main__":
    sys.exit(main())
