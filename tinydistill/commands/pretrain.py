"""`tinydistill pretrain`: masked language modelling from random weights."""

from tinydistill import hub
from tinydistill.commands import common
from tinydistill.data import corpora, inputs, tokenizer as tokenizers
from tinydistill.methods import bert
from tinydistill.students.bert import Bert
from tinydistill.students.configs import parse
from tinydistill.training.evaluation import mean_terms

HELP = "pre-train a student or teacher by masked language modelling"


def arguments(parser):
    parser.add_argument("--student", required=True, metavar="SIZE", help="LxH, LxHxA or a published name")
    parser.add_argument("--corpus", default="stdlib", metavar="C", help="see `tinydistill corpora` (default stdlib)")
    parser.add_argument("--tokenizer", metavar="DIR", help="take this tokenizer instead of training one")
    parser.add_argument("--vocabulary", type=common.positive, default=1000, metavar="N",
                        help="word pieces of the tokenizer that is trained (default 1000)")
    parser.add_argument("--mask-rate", type=common.positive_float, metavar="P", default=0.2,
                        help="share of tokens to hide (default 0.2; BERT: 0.15)")
    parser.add_argument("--init-std", type=common.positive_float, metavar="S", default=0.05,
                        help="standard deviation of the initial weights (default 0.05; BERT: 0.02)")
    common.training_flags(parser)


def run(args):
    stage, recipe = bert.pretrain, common.recipe_of(args, bert.pretrain)
    config = parse(args.student)
    train_texts, held_out = corpora.split(corpora.load(args.corpus))
    tokenizer = (tokenizers.load(args.tokenizer) if args.tokenizer
                 else tokenizers.train_wordpiece(train_texts, args.vocabulary))
    config = config.but(vocabulary=tokenizer.get_vocab_size(), head="masked-lm", pooler=False,
                        initial_std=args.init_std, pad_id=tokenizers.special_ids(tokenizer).pad)
    batches, unseen = (inputs.plain(rows, tokenizer, recipe, args.seed) for rows in (train_texts, held_out))
    model = common.placed(args, Bert(config, args.seed))
    common.say(args, f"{config} with {config.vocabulary:,} word pieces on {len(train_texts):,} rows of {args.corpus}")
    metrics = common.carry_out(
        args, {"student": args.student, "corpus": args.corpus, "rows": len(train_texts), "mask_rate": args.mask_rate,
               "init_std": args.init_std, "tokenizer": args.tokenizer or f"trained, {args.vocabulary}"},
        model, stage, recipe, lambda step: inputs.masked(batches.at(step), tokenizer, args.mask_rate, args.seed, step),
        tokenizer=tokenizer)
    terms = [term for _, term in stage.terms]
    return {"output": args.output, **metrics,
            "held_out": mean_terms(model, None, terms, inputs.masked_once(unseen, tokenizer, args.mask_rate, 0)),
            "sha256": hub.fingerprint(args.output)}


def text(result):
    return (f"{common.pretty(result['held_out'])} nats a masked token on held-out rows\n"
            f"the model is in {result['output']}: try tinydistill distill --teacher {result['output']}")
