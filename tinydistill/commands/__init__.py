"""The commands, one file each: `HELP`, `arguments(parser)`, `run(args) -> result`, `text(result) -> str`.

A command returns data; `--json` prints it as it is, `text` makes lines of it for a person. One with `OWN_OUTPUT` prints
by itself, and returns its exit code.
"""

COMMANDS = ("demo", "pretrain", "distill", "finetune", "evaluate", "predict", "prune", "augment", "methods", "losses",
            "students", "matrix", "tasks", "corpora", "params", "sensitivity", "export", "report", "trace",
            "verify")
