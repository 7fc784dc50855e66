"""`tinydistill augment`: more training rows for a task, out of its own."""

from pathlib import Path

from tinydistill import hub, tasks
from tinydistill.commands import common
from tinydistill.data import augmentation, tang, tinybert, tokenizer as tokenizers, word_vectors
from tinydistill.errors import WrongUsage
from tinydistill.tasks import glue

HELP = "write a task's training rows with variations of them"
HEADS = {"tinybert": "masked-lm", "tang": "token"}  # of the model that each method asks


def arguments(parser):
    parser.add_argument("--method", required=True, choices=tuple(HEADS),
                        help="tinybert: words from a masked language model; tang: masks, and words of the same tag")
    parser.add_argument("--task", required=True, metavar="T", help=f"a task in GLUE's files: {', '.join(glue.LAYOUTS)}")
    parser.add_argument("--data", required=True, metavar="DIR", help="the task's files")
    parser.add_argument("--model", required=True, metavar="DIR",
                        help="for tinybert a pre-trained model, for tang one fine-tuned on the task tagging")
    parser.add_argument("--vectors", metavar="FILE", help="tinybert: words of several pieces are exchanged for their "
                        "neighbours in this file in GloVe's text format; without it they stay")
    parser.add_argument("--output", required=True, metavar="FILE", help="a new file in the layout of train.tsv")
    parser.add_argument("--convention", choices=("paper", "official"), default="official",
                        help="tinybert: Algorithm 1 read literally, which leaves [MASK] in most places, or what the "
                             "published code does (default official)")
    parser.add_argument("--trials", type=common.positive, metavar="N",
                        help="variations that are drawn for each row (default: the method's, by task)")
    parser.add_argument("--n-gram", type=common.positive_float, default=0.0, metavar="P",
                        help="tang: the share of variations cut to a run of 1 to 5 words (default 0)")
    parser.add_argument("--seed", type=common.natural, default=0, metavar="N")
    common.machine_flags(parser)


def run(args):
    if args.task not in glue.LAYOUTS:
        raise WrongUsage(f"need a task in GLUE's files: {', '.join(glue.LAYOUTS)}; got {args.task!r}")
    if Path(args.output).exists():
        raise WrongUsage(f"need a new file for --output: there is already {args.output}")
    path = hub.located(args.model, "a model")
    tokenizer = tokenizers.load(path)
    model = common.placed(args, hub.read(path, head=HEADS[args.method], require_head=True))
    examples = tasks.get(args.task).load(args.data)["train"]
    vectors = word_vectors.read(args.vectors) if args.vectors else None
    vary = _tinybert if args.method == "tinybert" else _tang
    rows = vary(args, examples.rows, model, tokenizer)
    written = glue.write(args.output, glue.LAYOUTS[args.task], ((texts, examples.labels[i]) for i, texts in rows))
    return {"output": args.output, "method": args.method, "task": args.task, "rows": len(examples), "written": written}


def _tinybert(args, rows, model, tokenizer):
    """(number of the row, texts) of each row and its variations."""
    from tqdm import tqdm

    vectors = word_vectors.read(args.vectors) if args.vectors else None
    proposals = tinybert.Proposals(tokenizer, augmentation.predictor(model, tokenizer), vectors,
                                   longest=model.config.longest)
    for number, texts in enumerate(tqdm(rows, desc="augment", unit="row", disable=args.quiet)):
        if args.convention == "official":
            trials = args.trials or tinybert.TRIALS.get(args.task, tinybert.OTHER_TRIALS)
            variations = tinybert.official(texts, proposals, trials, seed=args.seed)
        else:
            variations = [texts, *tinybert.paper(texts, proposals, args.trials or tinybert.SAMPLES, seed=args.seed)]
        yield from ((number, variation) for variation in variations)


def _tang(args, rows, model, tokenizer):
    """The same, all rows first."""
    parted = [tuple(augmentation.words(tokenizer, text) for text in texts) for texts in rows]
    yield from enumerate(rows)
    tag = augmentation.tagger(model, tokenizer)
    yield from tang.augment(parted, tag, args.trials, n_gram=args.n_gram, seed=args.seed)


def text(result):
    return (f"{result['written']:,} rows out of {result['rows']:,} are in {result['output']}: name it train.tsv beside "
            f"the task's dev.tsv, and try tinydistill finetune --task {result['task']} --data DIR")
