"""`tinydistill distill`: a student learns from a teacher by one of the methods, on a corpus or on a task."""

import copy

from tinydistill import hub, methods, tasks
from tinydistill.commands import common, distill_data as data, grid
from tinydistill.commands.distill_student import begun, configured
from tinydistill.data import tokenizer as tokenizers
from tinydistill.errors import NothingToDo, WrongUsage
from tinydistill.losses.hard_labels import masked_lm
from tinydistill.methods.projections import Projections
from tinydistill.methods.start import STARTS
from tinydistill.students.heads import with_head
from tinydistill.architectures import parse
from tinydistill.training.ensemble import Ensemble
from tinydistill.training.evaluation import mean_terms
from tinydistill.training.loop import Phase

HELP = "distil a teacher into a student"


def arguments(parser):
    parser.add_argument("--method", required=True, metavar="M", help="see `tinydistill methods`")
    parser.add_argument("--teacher", required=True, action="append", metavar="DIR",
                        help="checkpoint or run directory; several, for methods of soft labels, are averaged")
    parser.add_argument("--student", required=True, metavar="SIZE",
                        help="LxH, LxHxA, a published name, or the directory of a model that goes on learning")
    common.text_flags(parser, mask_rate=0.15)
    parser.add_argument("--task", metavar="T", help="distil on a task's examples: see `tinydistill tasks`")
    parser.add_argument("--data", metavar="DIR", help="the task's files; embedded tasks need none")
    parser.add_argument("--epochs", type=common.positive, metavar="N", help="times a task's rows are read")
    parser.add_argument("--assistant", metavar="SIZE",
                        help="first distil into a teacher assistant of this size, in OUTPUT-assistant, then from it")
    parser.add_argument("--force", action="store_true", help="take an assistant outside the paper's condition")
    parser.add_argument("--convention", default="paper", choices=("paper", "official"),
                        help="the losses as the paper has them, or as published code computes them (default paper)")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE",
                        help="settings of the method, such as temperature=5: see `tinydistill methods`")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STAGE", help="stages to leave out")
    parser.add_argument("--start", choices=STARTS, help="how the student's weights begin (default: as in the paper)")
    parser.add_argument("--start-from", metavar="DIR", help="the model whose layers --start copies (default: the teacher)")
    parser.add_argument("--word-vectors", metavar="FILE", help="GloVe's text format: what a BiLSTM's words begin with")
    parser.add_argument("--cache-teacher", metavar="DIR", help="compute the teacher's features once and keep them here")
    parser.add_argument("--cache-dtype", choices=("float32", "float16"), default="float32", help="default float32")
    parser.add_argument("--init-std", type=common.positive_float, metavar="S", default=0.05,
                        help="standard deviation of the initial weights (default 0.05; BERT: 0.02)")
    grid.flag(parser, "paper, the method's own, where there is one")
    common.training_flags(parser)


def run(args):
    method = methods.get(args.method)
    if args.grid:
        return grid.search(args, distilled, method.settings, {"paper": method.grid})
    return distilled(args)


def distilled(args):
    """One run, or two with an assistant between."""
    method = methods.get(args.method)
    if not args.assistant:
        return distil(args, method, args.teacher, args.student, args.output)
    assistant = f"{args.output.rstrip('/')}-assistant"
    require_assistant(args, hub.read(hub.located(args.teacher[0], "a teacher")).config)
    common.say(args, f"the teacher assistant {args.assistant} comes first, in {assistant}")
    to_assistant = copy.copy(args)
    to_assistant.cache_teacher = args.cache_teacher and f"{args.cache_teacher.rstrip('/')}-assistant"   # another teacher's
    try:
        first = distil(to_assistant, method, args.teacher, args.assistant, assistant)
    except NothingToDo:                             # only a --resume comes here: the same run, and finished
        first = {"output": assistant}
    return distil(args, method, [assistant], args.student, args.output) | {"assistant": first}


def require_assistant(args, teacher):
    """Section 3.3 of MiniLM: an assistant helps where M <= L/2 and d' <= d/2; it has L layers of width d'."""
    student, assistant = parse(args.student), parse(args.assistant)
    needed = f"{teacher.layers}x{student.hidden}"
    fits = student.layers <= teacher.layers / 2 and student.hidden <= teacher.hidden / 2
    if not args.force and not fits:
        raise WrongUsage(f"a teacher assistant is for students of at most half the teacher's layers and width: student "
                         f"{student.layers}x{student.hidden}, teacher {teacher.layers}x{teacher.hidden}; "
                         f"leave --assistant out, or add --force")
    if not args.force and (assistant.layers, assistant.hidden) != (teacher.layers, student.hidden):
        raise WrongUsage(f"need an assistant of the teacher's depth and the student's width, {needed}; got {args.assistant}; "
                         f"or add --force")


def distil(args, method, teacher_paths, size, output):
    """One teacher (or several), one student, one run directory."""
    paths = [hub.located(path, "a teacher") for path in teacher_paths]
    task, settings = tasks.get(args.task) if args.task else None, settings_of(method, args.set)
    tokenizer = tokenizers.same(paths)
    rows = data.Rows.load(args, task, tokenizer)
    task = rows.task
    teacher_config = hub.read(paths[0]).config
    config, given = configured(args, method, size, teacher_config, rows)
    two = rows.with_vocabulary(method.settings | settings, teacher_config)
    if two:
        config, teacher_config = two.of_student(config), two.of_teacher(teacher_config)
    plan = chosen(method.plan(config, teacher_config, task=task is not None, convention=args.convention, **settings), args.skip)
    rows.require_read(plan)
    positions = min(config.longest, teacher_config.longest)
    recipes = [common.recipe_of(args, stage, positions=positions) for stage in plan]        # the lengths of what is counted
    recipes = [common.recipe_of(args, stage, rows.count(stage, recipe), positions) for stage, recipe in zip(plan, recipes)]
    recipes = shared_out(recipes, args.max_steps)
    require_soft_labels(method, plan, paths)
    teachers = [read_teacher(path, plan, task) for path in paths]
    teachers = [two.taught(teacher, args.seed) for teacher in teachers] if two else teachers
    start = "given" if given else args.start or method.start_of(config)
    student = given or begun(args, start, config, rows.head(plan[0]), tokenizer, teachers)
    student, teachers = common.placed(args, student), [common.placed(args, teacher) for teacher in teachers]
    projections = Projections(plan, config, teacher_config, args.seed).to(*data.place_of(student))
    teacher = teachers[0]
    if len(teachers) > 1:
        teacher = Ensemble(teachers, (method.settings | settings).get("temperature", 1.0))
    common.say(args, f"{', '.join(str(t.config) for t in teachers)} -> {config} by {method.name} on {rows}")

    identity = {"teacher": [hub.fingerprint(path) for path in paths]}
    identity |= {"temperature": teacher.temperature} if len(teachers) > 1 else {}
    phases = [Phase(stage, recipe, rows.batches_at(stage, recipe), rows.cached(stage, recipe, teacher, identity, config),
                    lambda model, stage=stage: with_head(model, *rows.head(stage), seed=args.seed))
              for stage, recipe in zip(plan, recipes)]
    unseen = rows.unseen(plan, recipes)
    terms = [term for _, term in plan[-1].terms if not plan[-1].teacher_inside]         # those of the student alone
    if plan[-1].head == "masked-lm" and masked_lm not in terms:
        terms.append(masked_lm)                     # what every masked language model is compared by
    first = {}
    if unseen and len(plan) == 1 and not plan[0].teacher_inside:
        first = mean_terms(phases[0].begin(student), teacher, terms, unseen, projections)
    student, metrics = common.carry_out(
        args, {"method": method.name, "convention": args.convention, "settings": method.settings | settings,
               "stages": [stage.name for stage in plan], "teacher": list(map(str, teacher_paths)),
               "teacher_sha256": identity["teacher"], "student": size, "heads": config.heads, **rows.as_dict(),
               "start": start, "init_std": args.init_std, "mask_rate": args.mask_rate,
               "masking": {stage.name: rows.masking(stage) for stage in plan if rows.masking(stage)}},
        student, phases, output=output, projections=projections, tokenizer=two.second if two else tokenizer)
    result = {"output": str(output), **metrics[-1], "sha256": hub.fingerprint(output)}
    if len(plan) > 1:
        result["stages"] = {stage.name: one for stage, one in zip(plan, metrics)}
    if unseen:
        result |= {"held_out_before": first, "held_out": mean_terms(student, teacher, terms, unseen, projections)}
    return result | rows.scores(student, recipes[-1])


def settings_of(method, given):
    """{name: value} of `--set NAME=VALUE`, each of the kind of the method's own value."""
    settings = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or name not in method.settings:
            raise WrongUsage(f"need --set NAME=VALUE with a setting of {method.name} "
                             f"({', '.join(method.settings) or 'it has none'}); got {pair!r}")
        kind = type(method.settings[name])
        try:
            settings[name] = kind(value)
        except ValueError:
            raise WrongUsage(f"need a number for {name} of {method.name}, got {value!r}") from None
    return settings


def require_soft_labels(method, plan, paths):
    """Several teachers are averaged in what they predict: raises WrongUsage where a stage reads more of them."""
    read = {name for stage in plan for name, _ in stage.teacher_needs.wanted} - {"logits"}
    if any(stage.teacher_inside for stage in plan):
        read.add("the layers")
    if len(paths) > 1 and read:
        raise WrongUsage(f"several teachers need a method of soft labels alone; {method.name} also reads "
                         f"{', '.join(sorted(read))} of its teacher: name one --teacher")


def chosen(plan, skipped):
    """The stages without those that --skip names."""
    names = [stage.name for stage in plan]
    unknown = [name for name in skipped if name not in names]
    if unknown or len(set(skipped)) == len(names):
        raise WrongUsage(f"need stages to skip out of {', '.join(names)}, and one that is left; got {' '.join(skipped)}")
    return [stage for stage in plan if stage.name not in skipped]


def shared_out(recipes, most):
    """The recipes with `most` steps in all, shared out as their own numbers of steps are, each at least one."""
    whole = sum(recipe.steps for recipe in recipes)
    if most is None or len(recipes) == 1 or whole <= most:
        return recipes
    if most < len(recipes):
        raise WrongUsage(f"need --max-steps of at least {len(recipes)}, one for each stage; got {most}")
    ends = [round(most * sum(r.steps for r in recipes[:i + 1]) / whole) for i in range(len(recipes))]
    starts = [0] + ends[:-1]
    return [recipe.but(steps=max(1, end - start)) for recipe, start, end in zip(recipes, starts, ends)]


def read_teacher(path, plan, task):
    """The teacher with the head that the stages read, which it must have; without one where none is read."""
    for stage in plan:
        if stage.teacher_inside or "logits" in stage.teacher_needs:
            if stage.head == "task":
                return hub.read(path, head=task.kind, labels=task.labels, require_head=True)
            return hub.read(path, head="masked-lm", require_head=True)
    return hub.read(path, head="none")


def text(result):
    if "grid" in result:
        return grid.text(result)
    before = result.get("held_out_before", {})
    lines = [f"held out: {name} " + (f"{before[name]:.4f} -> " if name in before else "") + f"{value:.4f}"
             for name, value in result.get("held_out", {}).items()]
    lines += [f"dev: {common.pretty(result['dev'])}"] if "dev" in result else []
    after = "predict" if "dev" in result else "finetune"
    return "\n".join(lines + [f"the student is in {result['output']}: try tinydistill {after} --model {result['output']}"])
