"""`tinydistill distill` beyond one teacher and one stage: tasks, stages, settings, assistants, several teachers, caches."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from test_cli import corpus, metrics, run, run_json, teacher  # noqa: F401 (fixtures)
from tinydistill import hub
from tinydistill.commands.distill import require_assistant, settings_of, shared_out
from tinydistill.errors import WrongUsage
from tinydistill.features import Batch, Needs, Pass
from tinydistill.methods import METHODS
from tinydistill.methods.stage import Recipe
from tinydistill.architectures import parse

QUICK = ["--quiet", "--batch-size", "8", "--max-length", "24"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    """A task in the layout of SST-2."""
    folder = tmp_path_factory.mktemp("reviews")
    words = {0: "string error name", 1: "table value file"}
    for split, count in (("train", 40), ("dev", 12)):
        lines = [f"the {words[i % 2].split()[i % 3]} of the reader {i}\t{i % 2}" for i in range(count)]
        (folder / f"{split}.tsv").write_text("sentence\tlabel\n" + "\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, teacher, reviews):  # noqa: F811
    """The teacher, fine-tuned on the task."""
    path = tmp_path_factory.mktemp("tuned") / "run"
    from tinydistill import cli
    assert cli.main(["finetune", "--task", "sst-2", "--model", teacher, "--data", reviews, "--max-steps", "10",
                     "--output", str(path), *QUICK]) == 0
    return str(path)


def on_task(capsys, method, teachers, data, output, *more):
    named = [word for path in teachers for word in ("--teacher", path)]
    return run_json(capsys, "distill", "--method", method, *named, "--task", "sst-2", "--data", data, "--student",
                    "1x16x2", "--output", output, *QUICK, *more)


def test_a_task_method_trains_a_student_with_the_tasks_head(capsys, tuned, reviews, tmp_path):
    result = on_task(capsys, "kd", [tuned], reviews, tmp_path / "run", "--max-steps", 6, "--set", "temperature=2")
    assert {"cross_entropy", "soft_labels.classes", "sha256"} <= result.keys() and set(result["dev"]) >= {"accuracy"}
    student = hub.read(tmp_path / "run")
    assert (student.config.head, student.config.labels) == ("sequence", hub.read(tuned).config.labels)
    code, out, _ = run(capsys, "evaluate", "--task", "sst-2", "--model", tmp_path / "run", "--data", reviews)
    assert code == 0 and "accuracy" in out


def test_stages_follow_each_other_and_can_be_left_out(capsys, tuned, reviews, corpus, tmp_path):  # noqa: F811
    result = on_task(capsys, "turc", [tuned], reviews, tmp_path / "all", "--max-steps", 9, "--corpus", corpus)
    assert list(result["stages"]) == ["pretrain", "distil", "finetune"]
    assert [line["step"] for line in metrics(tmp_path / "all")][-1] == 9
    named = {name for line in metrics(tmp_path / "all") for name in line}
    assert {"masked_lm", "soft_labels.classes", "cross_entropy"} <= named
    result = on_task(capsys, "turc", [tuned], reviews, tmp_path / "one", "--max-steps", 4, "--skip", "pretrain", "finetune")
    assert "soft_labels.classes" in result and "stages" not in result
    code, _, error = run(capsys, "distill", "--method", "turc", "--teacher", tuned, "--task", "sst-2", "--data", reviews,
                         "--student", "1x16x2", "--output", tmp_path / "none", "--skip", "pretraining")
    assert code == 2 and "need stages to skip out of pretrain, distil, finetune" in error


def test_a_run_of_stages_goes_on_where_it_was_stopped(capsys, tuned, reviews, tmp_path):
    """Stopped by a checkpoint in the second of two stages: the same weights as in one go."""
    arguments = ("--max-steps", 8, "--save-every", 3)
    whole = on_task(capsys, "tinybert", [tuned], reviews, tmp_path / "whole", *arguments)
    on_task(capsys, "tinybert", [tuned], reviews, tmp_path / "part", *arguments)
    part, steps = tmp_path / "part", sorted(path.name for path in (tmp_path / "part/checkpoints").glob("step-*"))
    for file in ("model.safetensors", "config.json", "report.html"):
        (part / file).unlink(missing_ok=True)
    shutil.rmtree(part / "checkpoints" / steps[-1])             # the end is lost, what is before it is kept
    (part / "checkpoints/LATEST").write_text((part / "checkpoints/LATEST").read_text().replace(steps[-1], steps[-2]))
    resumed = on_task(capsys, "tinybert", [tuned], reviews, part, *arguments, "--resume")
    assert resumed["sha256"] == whole["sha256"]
    assert metrics(part)[-1]["tinybert.prediction"] == metrics(tmp_path / "whole")[-1]["tinybert.prediction"]


def test_several_teachers_are_averaged(capsys, tuned, reviews, tmp_path):
    """Two copies of one teacher teach what one does; a second one that differs teaches something else."""
    sharp, other = tmp_path / "sharp", tmp_path / "other"
    for path, factor in ((sharp, 30), (other, -30)):
        shutil.copytree(tuned, path)
        model = hub.read(path)
        model.head.classifier.weight.array = factor * model.head.classifier.weight.array
        hub.write(model, path)
    losses = [on_task(capsys, "kd", teachers, reviews, tmp_path / str(i), "--max-steps", 3, "--dtype", "float64")
              ["soft_labels.classes"] for i, teachers in enumerate(([sharp], [sharp, sharp], [sharp, other]))]
    assert abs(losses[0] - losses[1]) <= 1e-10 * losses[0] and abs(losses[0] - losses[2]) > 1e-2 * losses[0]


def test_an_assistant_comes_between(capsys, teacher, corpus, tmp_path):  # noqa: F811
    result = run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "1x8x2", "--assistant",
                      "2x8x2", "--corpus", corpus, "--max-steps", 4, "--output", tmp_path / "run", *QUICK)
    assistant = hub.read(f"{tmp_path / 'run'}-assistant").config
    assert (assistant.layers, assistant.hidden) == (2, 8) and hub.read(tmp_path / "run").config.layers == 1
    assert result["assistant"]["output"] == f"{tmp_path / 'run'}-assistant"


def test_a_finished_assistant_is_taken_up_by_resume_alone(capsys, teacher, corpus, tmp_path):  # noqa: F811
    """And its cache is its own: it has another teacher than the student."""
    arguments = ["distill", "--method", "minilm", "--teacher", teacher, "--student", "1x8x2", "--assistant", "2x8x2",
                 "--corpus", corpus, "--max-steps", 3, "--cache-teacher", tmp_path / "cache", "--output", tmp_path / "run",
                 *QUICK]
    first = run_json(capsys, *arguments)
    assert (tmp_path / "cache").is_dir() and (tmp_path / "cache-assistant").is_dir()
    shutil.rmtree(tmp_path / "run")
    code, _, error = run(capsys, *arguments)
    assert code == 2 and "run-assistant holds a run already: go on with --resume" in error
    assert run_json(capsys, *arguments, "--resume")["sha256"] == first["sha256"]


def test_several_teachers_need_soft_labels_alone(capsys, tuned, reviews, tmp_path):
    code, _, error = run(capsys, "distill", "--method", "pkd-skip", "--teacher", tuned, "--teacher", tuned, "--task", "sst-2",
                         "--data", reviews, "--student", "2x16x2", "--output", tmp_path / "run", *QUICK)
    assert code == 2 and "pkd-skip also reads hidden of its teacher: name one --teacher" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("student, assistant, text", [
    ("3x384", "12x384", None), ("6x384", "12x384", None),
    ("7x384", "12x384", "at most half the teacher's layers and width: student 7x384, teacher 12x768"),
    ("6x396x12", "12x396x12", "at most half the teacher's layers and width"),
    ("3x384", "6x384", "the teacher's depth and the student's width, 12x384; got 6x384")])
def test_the_papers_condition_for_an_assistant(student, assistant, text):
    args = SimpleNamespace(student=student, assistant=assistant, force=False)
    if text is None:
        return require_assistant(args, parse("bert-base"))
    with pytest.raises(WrongUsage, match=text):
        require_assistant(args, parse("bert-base"))
    args.force = True
    require_assistant(args, parse("bert-base"))


def test_a_cached_teacher_teaches_the_same(capsys, teacher, corpus, tmp_path):  # noqa: F811
    def distil(name, *more):
        return run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "1x16x2", "--corpus",
                        corpus, "--max-steps", 5, "--output", tmp_path / name, *QUICK, *more)

    plain, cached = distil("plain"), distil("cached", "--cache-teacher", tmp_path / "cache")
    again = distil("again", "--cache-teacher", tmp_path / "cache")
    assert cached["sha256"] == again["sha256"]
    for name in ("minilm.attention", "minilm.value_relation"):
        assert abs(plain[name] - cached[name]) <= 1e-4 * plain[name]        # five float32 steps apart by rounding
    code, _, error = run(capsys, "distill", "--method", "mlm-kd", "--teacher", teacher, "--student", "1x16x2", "--corpus",
                         corpus, "--output", tmp_path / "masked", "--cache-teacher", tmp_path / "cache", *QUICK)
    assert code == 2 and "distil reads masked text, masked anew each time: leave --cache-teacher out" in error


def test_a_student_can_be_a_model_that_goes_on_learning(capsys, teacher, corpus, tmp_path):  # noqa: F811
    first = run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "1x16x2", "--corpus", corpus,
                     "--max-steps", 3, "--output", tmp_path / "first", *QUICK)
    second = run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", first["output"], "--corpus",
                      corpus, "--max-steps", 3, "--output", tmp_path / "second", *QUICK)
    assert second["held_out_before"] == first["held_out"]


def test_the_start_copies_the_teachers_layers(capsys, teacher, corpus, tmp_path):  # noqa: F811
    """A student of the teacher's size that starts from all its layers has nothing to learn."""
    result = run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "2x16x2", "--start",
                      "first-layers", "--corpus", corpus, "--max-steps", 1, "--output", tmp_path / "run", *QUICK)
    assert all(abs(value) < 1e-9 for value in result["held_out_before"].values())


@pytest.mark.parametrize("arguments, text", [
    (["--method", "kd"], "kd learns on a task: name it with --task"),
    (["--method", "minilm", "--task", "sst-2"], "minilm learns on a corpus: leave --task out"),
    (["--method", "minilm", "--set", "heads=3"], "need --set NAME=VALUE with a setting of minilm (variant); got 'heads=3'"),
    (["--method", "mlm-kd", "--set", "temperature=hot"], "need a number for temperature of mlm-kd, got 'hot'"),
    (["--method", "minilm", "--set", "variant=none"], "need a variant of minilm out of paper, attention-only"),
    (["--method", "minilm", "--max-length", "9999"], "need a --max-length of at most the model's"),
    (["--method", "tinybert", "--student", "3x16x2"], "a multiple of the student's: student 3 layers, teacher 2"),
    (["--method", "distilbert", "--student", "1x8x2"], "equal widths: student 8, teacher 16; write the student as 1x16")])
def test_what_cannot_be_is_one_line(capsys, teacher, reviews, corpus, tmp_path, arguments, text):  # noqa: F811
    code, out, error = run(capsys, "distill", "--teacher", teacher, "--student", "1x16x2", "--corpus", corpus, "--data",
                           reviews, "--output", tmp_path / "run", *arguments)
    assert code == 2 and out == "" and text in error and error.count("\n") <= 2 and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_settings_have_the_kind_of_the_methods_own():
    assert settings_of(METHODS["minilm-v2"], ["relation_heads=4"]) == {"relation_heads": 4}
    assert settings_of(METHODS["kd"], ["alpha=1", "temperature=5"]) == {"alpha": 1.0, "temperature": 5.0}


def test_steps_are_shared_out_by_the_stages_own_numbers():
    recipes = [Recipe(steps=steps, batch_size=1, learning_rate=1.0) for steps in (300, 100, 200)]
    assert [r.steps for r in shared_out(recipes, 60)] == [30, 10, 20]
    assert sum(r.steps for r in shared_out(recipes, 7)) == 7 and all(r.steps for r in shared_out(recipes, 3))
    assert shared_out(recipes, None) == shared_out(recipes, 600) == recipes
    with pytest.raises(WrongUsage, match="need --max-steps of at least 3, one for each stage; got 2"):
        shared_out(recipes, 2)


def test_the_exported_student_holds_nothing_of_the_method(capsys, teacher, corpus, tmp_path):  # noqa: F811
    run_json(capsys, "distill", "--method", "tinybert", "--teacher", teacher, "--student", "1x8x2", "--corpus", corpus,
             "--max-steps", 3, "--output", tmp_path / "run", *QUICK)
    student = hub.read(tmp_path / "run")                        # would refuse a tensor that has no place in a BERT
    checkpoint = next(Path(tmp_path / "run/checkpoints").glob("step-*"))
    from safetensors.numpy import load_file
    names = {name for file in checkpoint.glob("*.safetensors") for name in load_file(file)}
    assert any("method.tinybert" in name for name in names)
    ids = np.ones((1, 3), int)
    features = student(Batch(ids=ids, mask=ids > 0), Pass(Needs.of(hidden=[-1])))
    assert features.hidden[-1].shape == (1, 3, 8)
