"""`tinydistill demo`: MiniLM on the English of Python's own documentation, beside controls, in ten minutes."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinydistill import report, tasks
from tinydistill.backend import cpu_count, set_blas_threads, to_host
from tinydistill.commands import common, demo_models as models
from tinydistill.data import inputs
from tinydistill.features import Needs, Pass
from tinydistill.kernels.softmax import softmax
from tinydistill.losses import minilm
from tinydistill.methods import bert
from tinydistill.methods.stage import Recipe
from tinydistill.tasks import stdlib_modules
from tinydistill.tasks.metrics import mean_and_error, paired_difference
from tinydistill.tensor import no_grad
from tinydistill.training import evaluation
from tinydistill.training.comparison import finetuned_scores

HELP = "teacher, MiniLM student and controls on Python's own documentation: ten minutes, nothing downloaded"
CONTROL = "MLM 2x128"                               # what every row is compared with: the same student, steps and rows
SEEDS, LABELLED = 5, 1000
EPOCHS, FINETUNE_RATE = 6, 1e-3                     # as first tried, not tuned: on dev, 20 epochs at 5e-4 gave more


def arguments(parser):
    parser.add_argument("--output", default="runs/demo", metavar="DIR",
                        help="where the runs go; a second call goes on there (default runs/demo)")
    parser.add_argument("--full", action="store_true",
                        help="half an hour: adds MLM-KD, MLM with the teacher's compute, copied layers and the topic task")
    parser.add_argument("--seed", type=common.natural, default=0, metavar="N")
    parser.add_argument("--threads", type=common.positive, default=min(2, cpu_count()), metavar="N",
                        help="1 or 2: each batch is two shards (default: 2 where there are two processors)")
    common.machine_flags(parser)
    parser.set_defaults(shards=2, save_every=200)


def run(args):
    started = time.perf_counter()
    args.output = Path(args.output)
    set_blas_threads(1)                             # the two shards are the parallelism
    common.say(args, "reading Python's documentation and training the tokenizer")
    material = models.material()
    built = build(args, material)
    names = ["stdlib-replaced"] + (["stdlib-modules"] if args.full else [])
    examples = {name: few(tasks.get(name).load()) for name in names}
    comparisons = {name: compare(args, tasks.get(name), examples[name], built, material) for name in names}
    result = {"output": str(args.output), "rows": len(material.corpus), "seeds": SEEDS, "control": CONTROL,
              "fidelity": fidelity(built, material), "tasks": comparisons,
              "floors": stdlib_modules.floors(examples["stdlib-modules"]) if args.full else None,
              "equal_compute_steps": models.steps_of_equal_compute() if args.full else None,
              "seconds": round(time.perf_counter() - started)}
    (args.output / "demo.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    result["report"] = str(args.output / "report.html")
    report.write(result["report"], page(args, result, built, material))
    return result


def build(args, material):
    """{name: model}: the teacher first, then students and controls."""
    teacher = models.pretrained(args, "teacher 4x128", models.TEACHER_SIZE, models.TEACHER_STEPS, material)
    steps = models.STUDENT_STEPS
    built = {"teacher 4x128": teacher,
             "MiniLM 2x128": models.distilled(args, "MiniLM 2x128", "2x128x4", steps, teacher, material),
             CONTROL: models.pretrained(args, CONTROL, "2x128x4", steps, material,
                                        batch_size=models.DISTILLATION["batch_size"])}
    if args.full:
        built["MLM-KD 2x128"] = models.soft_labelled(args, "MLM-KD 2x128", "2x128x4", steps, teacher, material)
        longer = models.steps_of_equal_compute()
        built["MLM 2x128, teacher's compute added"] = models.pretrained(
            args, f"MLM 2x128 {longer} steps", "2x128x4", longer, material)
        built["first two layers, untrained"] = models.first_layers(args, "2x128x4", teacher, material)
    built["random 2x128"] = models.untrained(args, "2x128x4", material)
    built["MiniLM 2x64"] = models.distilled(args, "MiniLM 2x64", "2x64x4", steps, teacher, material)
    return built


def few(examples):
    """The splits with at most `LABELLED` examples to train on; their order is that of a hash, so these are a sample."""
    train = examples["train"]
    if len(train) <= LABELLED:
        return examples
    return examples | {"train": replace(train, texts=train.texts[:LABELLED], labels=train.labels[:LABELLED])}


def compare(args, task, examples, built, material):
    """A row a model: parameters, score over seeds, difference to the control in pairs of seeds, reading speed."""
    batch = 32
    recipe = Recipe(steps=EPOCHS * -(-len(examples["train"]) // batch), batch_size=batch, max_length=models.LENGTH,
                    learning_rate=FINETUNE_RATE, warmup=EPOCHS)
    scores = {name: cell(args, task, name, model, examples, material, recipe) for name, model in built.items()}
    rows = []
    for name, model in built.items():
        mean, error = mean_and_error(scores[name])
        row = {"model": name, "parameters": sum(p.array.size for p in with_body(model)), task.metric: mean,
               "standard error": error}
        if name != CONTROL:
            row |= dict(zip(("difference", "low", "high"), paired_difference(scores[name], scores[CONTROL])))
        rows.append(row | {"tokens a second": reading_speed(model, material)})
    return {"metric": task.metric, "train": len(examples["train"]), "test": len(examples["test"]), "rows": rows,
            "scores": scores}


def cell(args, task, name, model, examples, material, recipe):
    """The scores of one model on one task, from the file that an earlier run left or from fine-tuning now."""
    path = args.output / "scores" / f"{task.name} {name}.json"
    if not path.exists():
        common.say(args, f"{name}: fine-tuning on {task.name}, {SEEDS} seeds")
        scores = finetuned_scores(model, task, examples, material.tokenizer, bert.finetune, recipe, range(SEEDS),
                                  shards=args.shards, threads=args.threads)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(scores), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def with_body(model):
    """The parameters that fine-tuning keeps: all but the head."""
    return [p for name, p in model.named_parameters().items() if not name.startswith("head.")]


def reading_speed(model, material):
    """Tokens a second through the whole encoder, batches of 32 rows, without learning."""
    recipe = bert.pretrain.recipes["laptop"]
    tokens, started = 0, time.perf_counter()
    with no_grad():
        for _, batch in inputs.plain(material.unseen, material.tokenizer, recipe, 0).once():
            to_host(model(batch.to(evaluation.array_library(model)), Pass(Needs.of(hidden=[-1]))).hidden[-1].array)
            tokens += int(batch.mask.sum())
    return round(tokens / (time.perf_counter() - started))


def fidelity(built, material):
    """A row a student: how far its last layer's relations are from the teacher's on rows that nobody saw, in nats."""
    batches = inputs.plain(material.unseen, material.tokenizer, bert.pretrain.recipes["laptop"], 0)
    unseen = [batch for _, batch in batches.once()]
    teacher, *students = built.items()
    language = [term for _, term in bert.pretrain.terms]
    held_out = evaluation.mean_terms(teacher[1], None, language, inputs.masked_once(
        batches, inputs.masking("bert", material.tokenizer, batches), models.MASKED, 0))
    rows = [{"model": teacher[0], "held-out MLM loss": held_out["masked_lm"]}]
    for name, student in students:
        kl = evaluation.mean_terms(student, teacher[1], [minilm.attention, minilm.value_relation], unseen)
        rows.append({"model": name, "attention KL": kl["minilm.attention"], "value KL": kl["minilm.value_relation"]})
    return rows


# ---------------------------------------------------------------- for people

SCORES = ("model", "parameters", "score", "to the control [95 %]", "tokens a second")


def score_rows(result, task):
    """The comparison's rows as a person reads them: scores in points."""
    rows = []
    for row in result["tasks"][task]["rows"]:
        shown = {"model": row["model"], "parameters": row["parameters"], "tokens a second": row["tokens a second"],
                 "score": f"{100 * row[result['tasks'][task]['metric']]:.1f} ± {100 * row['standard error']:.1f}",
                 "to the control [95 %]": "control"}
        if "difference" in row:
            shown["to the control [95 %]"] = "{:+.1f} [{:+.1f}, {:+.1f}]".format(
                *(100 * row[end] for end in ("difference", "low", "high")))
        rows.append(shown)
    return rows


def heading(result, task):
    """What the numbers of a task are."""
    part = result["tasks"][task]
    return (f"{task}: {part['metric']} on {part['test']:,} unseen rows after fine-tuning on {part['train']:,}, "
            f"mean ± standard error over {result['seeds']} seeds, in points")


def text(result):
    lines = []
    for task in result["tasks"]:
        lines += ["", heading(result, task), common.table(score_rows(result, task), SCORES)]
    if result["floors"]:
        lines += ["stdlib-modules without a Transformer: " + common.pretty(result["floors"])]
    lines += ["", "distance of the last layer's relations from the teacher's on unseen rows, in nats",
              common.table(result["fidelity"], ("model", "attention KL", "value KL", "held-out MLM loss")), "",
              f"{result['seconds']} seconds; the page is {result['report']}"]
    return "\n".join(lines[1:])


def page(args, result, built, material):
    """report.html: the tables, the losses over steps, the attention maps."""
    sections = [(f"Task {task}", report.paragraph(heading(result, task) + f". Control: {result['control']}.")
                 + report.table(score_rows(result, task), SCORES)) for task in result["tasks"]]
    if result["floors"]:
        sections.append(("Without a Transformer", report.paragraph(common.pretty(result["floors"]))))
    sections.append(("Distance from the teacher", report.table(
        result["fidelity"], ("model", "attention KL", "value KL", "held-out MLM loss"))))
    runs = {path.parent.name: report.read_metrics(path) for path in sorted(args.output.glob("*/metrics.jsonl"))}
    sections.append(("Losses over steps", report.curves(runs)))
    shown = ("teacher 4x128", "MiniLM 2x128", CONTROL)
    tokens, maps = attention_maps({name: built[name] for name in shown}, material)
    sections.append(("Last-layer attention, head by head", report.attention_maps(tokens, maps)))
    return report.page("tinydistill demo", sections)


def attention_maps(chosen, material):
    """(tokens, {model: (A, T, T)}) for one unseen row of about a dozen tokens."""
    batches = inputs.plain(material.unseen, material.tokenizer, bert.pretrain.recipes["laptop"], 0)
    i = int(np.argmin(abs(batches.lengths - 14)))
    batch = batches.batch(np.array([i]))
    maps = {}
    with no_grad():
        for name, model in chosen.items():
            features = model(batch.to(evaluation.array_library(model)), Pass(Needs.of(scores=[-1])))
            maps[name] = softmax(to_host(features.scores[-1].array), None)[0]           # (A, T, T): nothing is padded
    return [material.tokenizer.id_to_token(int(t)) for t in batch.ids[0]], maps
