"""The command line: what it prints, what it writes, how it fails."""

import io
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydistill import architectures, cli, hub, losses, methods, tasks
from tinydistill.data import tokenizer as tokenizers
from tinydistill.features import Batch, Needs, Pass

WORDS = "value name file row reader line table key index number object method string error module test".split()
TEXT = "\n".join(f"the {a} of the {b} is the {c} that a reader opened" for a in WORDS for b in WORDS[:4] for c in WORDS[:2])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, corpus):
    path = tmp_path_factory.mktemp("teacher") / "run"
    assert cli.main(["pretrain", "--student", "2x16x2", "--corpus", corpus, "--vocabulary", "90", "--max-steps", "12",
                     "--output", str(path), "--quiet", "--batch-size", "8"]) == 0
    return str(path)


def run(capsys, *arguments):
    """(exit code, stdout, stderr) of one command."""
    code = cli.main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def run_json(capsys, *arguments):
    """The JSON document of a command that must succeed."""
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def metrics(directory):
    return [json.loads(line) for line in (Path(directory) / "metrics.jsonl").read_text().splitlines()]


# ---------------------------------------------------------------- lists

def test_the_lists_name_everything(capsys):
    assert {row["term"] for row in run_json(capsys, "losses")} == set(losses.TERMS)
    assert {row["method"] for row in run_json(capsys, "methods")} == set(methods.METHODS)
    assert {row["student"] for row in run_json(capsys, "students")} == set(architectures.SIZES)
    assert {row["task"] for row in run_json(capsys, "tasks")} == set(tasks.TASKS)
    assert {"stdlib", "FILE"} <= {row["name"] for row in run_json(capsys, "corpora")}
    for row in run_json(capsys, "losses"):
        assert Path(row["file"]).is_file() and row["paper"] and row["equation"]


@pytest.mark.parametrize("command", ("losses", "methods", "students", "tasks", "corpora"))
def test_a_list_for_people_has_a_header_and_a_line_each(capsys, command):
    rows = run_json(capsys, command)
    code, out, _ = run(capsys, command)
    lines = sum(len(row.get("on", [""])) for row in rows)               # a method may learn on text and on tasks
    assert code == 0 and len(out.splitlines()) == lines + 1


def test_params_adds_up(capsys):
    result = run_json(capsys, "params", "6x384")
    parts = dict(result["parts"])
    assert parts.pop("total") == sum(parts.values()) == 22_713_216
    assert result["counted_as_published"] == 22_367_232
    assert "22,713,216" in run(capsys, "params", "6x384")[1]
    assert run_json(capsys, "params", "turc-tiny", "--head", "pretraining")["parts"]["total"] == 4_433_468


# ---------------------------------------------------------------- from text to answers

def test_pretrain_distill_finetune_evaluate_predict_report(capsys, monkeypatch, tmp_path, corpus, teacher):
    assert set(metrics(teacher)[-1]) >= {"step", "masked_lm", "loss", "learning_rate", "tokens_per_second", "seconds"}

    student = tmp_path / "student"
    result = run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "1x8", "--corpus",
                      corpus, "--max-steps", 30, "--output", student, "--quiet", "--lr", 3e-3)
    assert hub.read(student).config.heads == 2                          # the teacher's
    last = metrics(student)[-1]
    assert last["step"] == 30 and last["loss"] == pytest.approx(last["minilm.attention"] + last["minilm.value_relation"])
    assert set(result["held_out"]) == set(result["held_out_before"]) == {"minilm.attention", "minilm.value_relation"}
    assert sum(result["held_out"].values()) < sum(result["held_out_before"].values())

    data = tmp_path / "data"
    data.mkdir()
    rows = [(f"the {'value' if i % 2 else 'name'} of the file {i}", i % 2) for i in range(64)]
    for split in ("train", "dev"):
        lines = ["sentence\tlabel"] + [f"{text}\t{label}" for text, label in rows]
        (data / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tuned = tmp_path / "tuned"
    result = run_json(capsys, "finetune", "--task", "sst-2", "--model", student, "--data", data, "--output", tuned,
                      "--epochs", 40, "--lr", 1e-2, "--quiet")
    assert result["dev"]["accuracy"] == 1.0                             # two words tell the classes apart
    assert run_json(capsys, "evaluate", "--task", "sst-2", "--model", tuned, "--data", data)["accuracy"] == 1.0

    monkeypatch.setattr("sys.stdin", io.StringIO("the value of it\n\nthe name of it\n"))
    answers = run_json(capsys, "predict", "--model", tuned, "--quiet")
    assert [answer["label"] for answer in answers] == ["positive", "negative"]
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in answers)

    report = run_json(capsys, "report", tuned)["report"]
    assert "<svg" in Path(report).read_text(encoding="utf-8")


def test_predict_reads_pairs_that_a_tab_parts(capsys, monkeypatch, tmp_path, teacher):
    model = hub.read(teacher, head="sequence", labels=("yes", "no"))
    tokenizer = tokenizers.load(teacher)
    hub.write(model, tmp_path / "model", tokenizer)
    monkeypatch.setattr("sys.stdin", io.StringIO("the table\tthe value\nthe value\tthe table\n"))
    answers = run_json(capsys, "predict", "--model", tmp_path / "model", "--quiet")
    ids, types = tokenizers.encode(tokenizer, ["the table"], 64, ["the value"])
    batch = Batch(ids=np.array(ids), mask=np.ones((1, len(ids[0])), bool), token_types=np.array(types))
    logits = model(batch, Pass(Needs.of(logits=True))).logits.array[0]
    want = np.exp(logits) / np.exp(logits).sum()
    assert np.abs(np.array(list(answers[0]["probabilities"].values())) - want).max() < 1e-6 and len(answers) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("a\tb\nno pair\n"))
    code, _, error = run(capsys, "predict", "--model", tmp_path / "model", "--quiet")
    assert code == 2 and "need a TAB in every line or in none; line 2 has none" in error


def test_predict_fills_masks_and_says_what_it_needs(capsys, monkeypatch, teacher):
    monkeypatch.setattr("sys.stdin", io.StringIO("the [MASK] of the file\n"))
    (answer,) = run_json(capsys, "predict", "--model", teacher, "--quiet")
    (mask,) = answer["masks"]
    assert len(mask) == 5 and mask[0]["probability"] >= mask[-1]["probability"] > 0
    monkeypatch.setattr("sys.stdin", io.StringIO("no mask here\n"))
    code, _, err = run(capsys, "predict", "--model", teacher, "--quiet")
    assert code == 2 and "need a [MASK] in every line" in err
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert run(capsys, "predict", "--model", teacher, "--quiet")[0] == 2


def test_token_tasks_answer_token_by_token(capsys, monkeypatch, tmp_path, teacher):
    model = hub.read(teacher, head="token", labels=("original", "replaced"))
    hub.write(model, tmp_path / "model", tokenizers.load(teacher))
    monkeypatch.setattr("sys.stdin", io.StringIO("the value\n"))
    (answer,) = run_json(capsys, "predict", "--model", tmp_path / "model", "--quiet")
    assert "".join(t["token"].removeprefix("##") for t in answer["tokens"]) == "thevalue"
    assert {t["label"] for t in answer["tokens"]} <= {"original", "replaced"}


# ---------------------------------------------------------------- stopping and going on

def same_weights(one, other):
    a, b = hub.read(one).arrays(), hub.read(other).arrays()
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_finished_run_has_nothing_to_do_and_loses_nothing(capsys, corpus, teacher):
    before = hub.fingerprint(teacher)
    arguments = ("pretrain", "--student", "2x16x2", "--corpus", corpus, "--vocabulary", 90, "--max-steps", 12,
                 "--output", teacher, "--quiet", "--batch-size", 8)
    code, _, err = run(capsys, *arguments, "--resume")
    assert code == 3 and "finished" in err
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "--resume" in err
    code, _, err = run(capsys, *arguments[:-1], 4, "--resume")
    assert code == 2 and "batch_size 8" in err
    assert hub.fingerprint(teacher) == before


def test_threads_change_no_bit_of_a_run(capsys, tmp_path, corpus, teacher):
    for threads in (1, 3):
        assert run(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "1x8", "--corpus", corpus,
                   "--max-steps", 6, "--output", tmp_path / str(threads), "--quiet", "--shards", 3, "--threads",
                   threads)[0] == 0
    assert same_weights(tmp_path / "1", tmp_path / "3")


def test_ctrl_c_saves_and_resume_reaches_the_same_bits(capsys, tmp_path, corpus, teacher):
    arguments = ["distill", "--method", "minilm", "--teacher", teacher, "--student", "1x8", "--corpus", corpus,
                 "--max-steps", "400", "--quiet"]
    assert run(capsys, *arguments, "--output", tmp_path / "whole")[0] == 0
    process = subprocess.Popen([sys.executable, "-m", "tinydistill", *arguments, "--output", str(tmp_path / "stopped")],
                               stderr=subprocess.PIPE, text=True,       # a job in the background ignores Ctrl-C
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    while not (tmp_path / "stopped" / "metrics.jsonl").exists() or not metrics(tmp_path / "stopped"):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(2)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert run(capsys, *arguments, "--output", tmp_path / "stopped", "--resume")[0] == 0
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    timeless = [[{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")}
                 for line in metrics(tmp_path / name)] for name in ("whole", "stopped")]
    assert timeless[0] == timeless[1]


# ---------------------------------------------------------------- wrong arguments: one line, nothing lost

@pytest.mark.parametrize("arguments, code, says", [
    (("params", "6y384"), 2, "need a size such as 6x384"),
    (("pretrain", "--student", "2x16", "--corpus", "nowhere.txt", "--output", "OUT"), 2, "there is no nowhere.txt"),
    (("pretrain", "--student", "2x16", "--corpus", "CORPUS", "--output", "OUT", "--backend", "cupy"), 1, "gpu-cuda12"),
    (("pretrain", "--student", "2x16", "--corpus", "CORPUS", "--output", "OUT", "--mask-rate", "2"), 2, "got 2.0"),
    (("distill", "--method", "maxilm", "--teacher", "TEACHER", "--student", "1x8", "--output", "OUT"), 2, "minilm"),
    (("distill", "--method", "minilm", "--teacher", "nowhere", "--student", "1x8", "--output", "OUT"), 2, "nowhere"),
    (("distill", "--method", "minilm", "--teacher", "TEACHER", "--student", "1x9x3", "--output", "OUT"), 2,
     "student 3, teacher 2"),
    (("finetune", "--task", "sst-3", "--model", "TEACHER", "--output", "OUT"), 2, "sst-2"),
    (("finetune", "--task", "sst-2", "--model", "TEACHER", "--output", "OUT"), 2, "needs a data folder"),
    (("evaluate", "--task", "stdlib-modules", "--model", "TEACHER"), 2, "head"),
    (("report", "nowhere"), 2, "nowhere"),
])
def test_wrong_arguments(capsys, tmp_path, corpus, teacher, arguments, code, says):
    known = {"OUT": str(tmp_path / "out"), "CORPUS": corpus, "TEACHER": teacher}
    came, out, err = run(capsys, *(known.get(argument, argument) for argument in arguments),
                         *(() if arguments[0] in ("params", "report") else ("--quiet",)))
    assert came == code and says in err and out == ""
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err


@pytest.mark.parametrize("flag, value", [("--max-steps", "0"), ("--lr", "-1"), ("--lr", "x"), ("--seed", "-1"),
                                         ("--batch-size", "1.5")])
def test_wrong_numbers_are_usage(capsys, flag, value):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", "--student", "2x16", "--output", "x", flag, value])
    assert stopped.value.code == 2 and f"got {value!r}" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_line(capsys, tmp_path, teacher):
    broken = tmp_path / "broken"
    shutil.copytree(teacher, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[:len(weights) // 2])
    code, _, err = run(capsys, "distill", "--method", "minilm", "--teacher", broken, "--student", "1x8", "--output",
                       tmp_path / "out", "--quiet")
    assert code == 1 and "model.safetensors" in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_several_models_are_evaluated_as_one(capsys, tmp_path, corpus, teacher):
    """BERT-Vision's way to join two: the largest probability that any of them gives. And other vocabularies are refused."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev"):
        rows = [f"the {'value' if i % 2 else 'name'} of the file {i}\t{i % 2}" for i in range(32)]
        (data / f"{split}.tsv").write_text("sentence\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    task = ("--task", "sst-2", "--data", data)
    for seed in (0, 1):
        run_json(capsys, "finetune", *task, "--model", teacher, "--output", tmp_path / f"m{seed}", "--max-steps", 2, "--seed",
                 seed, "--quiet", "--lr", 1e-2)
    models = [f"--model={tmp_path / f'm{seed}'}" for seed in (0, 1)]
    one = run_json(capsys, "evaluate", *task, models[0])
    assert run_json(capsys, "evaluate", *task, models[0], models[0])["accuracy"] == one["accuracy"]
    for combined in ("mean", "maximum"):
        both = run_json(capsys, "evaluate", *task, *models, "--combined", combined)
        assert both["model"] == [m.partition("=")[2] for m in models] and 0 <= both["accuracy"] <= 1
    other = tmp_path / "other"
    run_json(capsys, "pretrain", "--student", "1x8", "--corpus", corpus, "--vocabulary", 60, "--max-steps", 1, "--output", other,
             "--quiet")
    run_json(capsys, "finetune", *task, "--model", other, "--output", tmp_path / "m2", "--max-steps", 1, "--quiet")
    code, _, err = run(capsys, "evaluate", *task, models[0], f"--model={tmp_path / 'm2'}")
    assert code == 2 and "need models with one vocabulary" in err
