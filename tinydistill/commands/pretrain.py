"""`tinydistill pretrain`: masked language modelling, with next sentences where asked, from random weights."""

import itertools

from tinydistill import hub
from tinydistill.commands import common
from tinydistill.data import corpora, inputs, tokenizer as tokenizers
from tinydistill.methods import bert
from tinydistill.architectures import build, fitted, parse
from tinydistill.training.evaluation import mean_terms
from tinydistill.training.loop import Phase

OWN_PIECES = {"roberta": "bpe", "xlm-roberta": "unigram"}
HELP = "pre-train a student or teacher by masked language modelling"


def arguments(parser):
    parser.add_argument("--student", required=True, metavar="SIZE", help="LxH, LxHxA or a published name")
    common.text_flags(parser, mask_rate=0.2)
    parser.add_argument("--tokenizer", metavar="DIR", help="take this tokenizer instead of training one")
    parser.add_argument("--vocabulary", type=common.positive, default=1000, metavar="N",
                        help="word pieces of the tokenizer that is trained (default 1000)")
    parser.add_argument("--pieces", choices=tokenizers.KINDS,
                        help="how that one cuts words (default: as the architecture's own, wordpiece, bpe or unigram)")
    parser.add_argument("--init-std", type=common.positive_float, metavar="S", default=0.05,
                        help="standard deviation of the initial weights (default 0.05; BERT: 0.02)")
    common.training_flags(parser)


def run(args):
    stage = bert.pretrain_pairs if args.pairs else bert.pretrain
    config = parse(args.student)
    recipe = common.recipe_of(args, stage, positions=config.longest)
    train, held_out = corpora.parts(args.corpus, of_documents=args.pairs)
    pieces = args.pieces or OWN_PIECES.get(config.model_type, "wordpiece")
    tokenizer = (tokenizers.load(args.tokenizer) if args.tokenizer
                 else tokenizers.KINDS[pieces](itertools.chain(*train) if args.pairs else train, args.vocabulary))
    config = fitted(config, vocabulary=tokenizer.get_vocab_size(), pad_id=tokenizers.special_ids(tokenizer).pad,
                    pooler=stage.head in config.read_pooled, initial_std=args.init_std).but(head=stage.head)
    read = inputs.paired if args.pairs else inputs.plain
    batches, unseen = (read(part, tokenizer, recipe, args.seed) for part in (train, held_out))
    choose = inputs.masking(args.masking or stage.masking, tokenizer, batches)
    model = common.placed(args, build(config, args.seed))
    common.say(args, f"{config} with {config.vocabulary:,} word pieces on {len(batches.sequences):,} "
                     f"{'pairs' if args.pairs else 'rows'} of {args.corpus}")
    model, (metrics,) = common.carry_out(
        args, {"student": args.student, "corpus": args.corpus, "pairs": args.pairs, "rows": len(batches.sequences),
               "masking": args.masking or stage.masking, "mask_rate": args.mask_rate, "init_std": args.init_std,
               "tokenizer": args.tokenizer or f"trained, {pieces}, {args.vocabulary}"},
        model, [Phase(stage, recipe,
                      lambda step: inputs.masked(batches.at(step), choose, args.mask_rate, args.seed, step))],
        tokenizer=tokenizer)
    terms = [term for _, term in stage.terms]
    fixed = list(inputs.masked_once(unseen, choose, args.mask_rate, 0))
    return {"output": args.output, **metrics, "held_out": mean_terms(model, None, terms, fixed),
            "word_frequencies": inputs.frequency_loss(batches, fixed, config.vocabulary),
            "sha256": hub.fingerprint(args.output)}


def text(result):
    return (f"{common.pretty(result['held_out'])} nats on held-out rows; "
            f"by word frequencies alone {result['word_frequencies']:.4f}\n"
            f"the model is in {result['output']}: try tinydistill distill --teacher {result['output']}")
