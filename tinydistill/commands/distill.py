"""`tinydistill distill`: a student learns from a teacher by one of the methods."""

from tinydistill import hub, methods
from tinydistill.commands import common
from tinydistill.data import corpora, inputs, tokenizer as tokenizers
from tinydistill.students.bert import Bert
from tinydistill.students.configs import has_fixed_heads, parse
from tinydistill.training.evaluation import mean_terms

HELP = "distil a teacher into a student"


def arguments(parser):
    parser.add_argument("--method", required=True, metavar="M", help="see `tinydistill methods`")
    parser.add_argument("--teacher", required=True, metavar="DIR", help="checkpoint or run directory")
    parser.add_argument("--student", required=True, metavar="SIZE", help="LxH, LxHxA or a published name")
    parser.add_argument("--corpus", default="stdlib", metavar="C", help="see `tinydistill corpora` (default stdlib)")
    parser.add_argument("--init-std", type=common.positive_float, metavar="S", default=0.05,
                        help="standard deviation of the initial weights (default 0.05; BERT: 0.02)")
    common.training_flags(parser)


def run(args):
    method = methods.get(args.method)
    stage, = method.stages
    recipe = common.recipe_of(args, stage)
    teacher_path = common.require_directory(args.teacher, "a teacher")
    tokenizer = tokenizers.load(teacher_path)
    teacher = hub.read(teacher_path)
    config = student_config(args, method, teacher.config)
    train_texts, held_out = corpora.split(corpora.load(args.corpus))
    batches = inputs.plain(train_texts, tokenizer, recipe, args.seed)
    teacher, student = common.placed(args, teacher), common.placed(args, Bert(config, args.seed))
    common.say(args, f"{teacher.config} -> {config} by {method.name} on {len(train_texts):,} rows of {args.corpus}")

    terms = [term for _, term in stage.terms]
    unseen = [batch for _, batch in inputs.plain(held_out[:500], tokenizer, recipe, args.seed).once()]
    before = mean_terms(student, teacher, terms, unseen)
    metrics = common.carry_out(
        args, {"method": method.name, "teacher": args.teacher, "teacher_sha256": hub.fingerprint(teacher_path),
               "student": args.student, "heads": config.heads, "corpus": args.corpus, "rows": len(train_texts),
               "init_std": args.init_std},
        student, stage, recipe, batches.at, teacher=teacher, tokenizer=tokenizer)
    return {"output": args.output, **metrics, "held_out_before": before,
            "held_out": mean_terms(student, teacher, terms, unseen), "sha256": hub.fingerprint(args.output)}


def student_config(args, method, teacher):
    """The student's configuration: its size, and all that it must share with its teacher."""
    config = parse(args.student, heads=teacher.heads if method.equal_heads else None)
    if method.equal_heads and not has_fixed_heads(args.student):
        common.say(args, f"the student gets the teacher's {config.heads} attention heads")
    config = config.but(vocabulary=teacher.vocabulary, positions=teacher.positions, token_types=teacher.token_types,
                        pad_id=teacher.pad_id, eps=teacher.eps, initial_std=args.init_std)
    method.check(config, teacher)
    return config


def text(result):
    lines = [f"held out: {name} {result['held_out_before'][name]:.4f} -> {value:.4f} nats"
             for name, value in result["held_out"].items()]
    return "\n".join(lines + [f"the student is in {result['output']}: try tinydistill finetune --model {result['output']}"])
