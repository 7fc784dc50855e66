"""`tinydistill augment`: a file that finetune reads, the rows themselves in it, and errors in one line."""

import json
import os
from pathlib import Path

import pytest

from tinydistill import cli, hub, tasks
from tinydistill.data import tokenizer as tokenizers
from tinydistill.data.tokenizer import train_wordpiece
from tinydistill.students.bert import Bert
from tinydistill.architectures import parse
from tinydistill.tasks.glue import LAYOUTS, read

TEXTS = ["red cats see dogs", "blue dogs see cats", "green birds like trees", "old trees like birds"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small models of random weights: one with a masked-lm head, one that tags."""
    place, tokenizer = tmp_path_factory.mktemp("models"), train_wordpiece(TEXTS * 2, 90)
    config = parse("1x16").but(vocabulary=tokenizer.get_vocab_size(), initial_std=0.5, positions=32)
    for name, head in (("masked-lm", {"pooler": False}), ("token", {"labels": ("N", "V"), "pooler": False})):
        hub.write(Bert(config.but(head=name, **head), 0), place / name, tokenizer)
    return place


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train", "dev"):
        (folder / f"{name}.tsv").write_text("index\tsentence\tlabel\n" + "".join(
            f"{i}\t{text}\t{i % 2}\n" for i, text in enumerate(TEXTS)))
    return folder


def augment(capsys, *arguments):
    code = cli.main(["augment", *map(str, arguments), "--quiet", "--json"])
    printed = capsys.readouterr()
    return json.loads(printed.out) if code == 0 else (code, printed.err)


@pytest.mark.parametrize("method, head, more", [("tinybert", "masked-lm", ()), ("tang", "token", ()),
                                                ("tinybert", "masked-lm", ("--convention", "paper"))])
def test_rows_and_their_variations(capsys, tmp_path, models, data, method, head, more):
    output = tmp_path / "augmented.tsv"
    arguments = ("--method", method, "--task", "sst-2", "--data", data, "--model", models / head, "--trials", 5, *more)
    result = augment(capsys, *arguments, "--output", output)
    examples = read(output, LAYOUTS["sst-2"])
    assert result["written"] == len(examples) > 4 and result["rows"] == 4 and len(examples) <= 4 * 6
    labels = dict(zip(TEXTS, [0, 1, 0, 1]))
    found = dict(zip(examples.texts, examples.labels))
    assert labels.items() <= found.items()                      # the rows themselves are there
    for text, label in zip(examples.texts, examples.labels):    # a variation has the label of its row
        nearest = max(TEXTS, key=lambda row: sum(a == b for a, b in zip(row.split(), text.split())))
        if sum(a == b for a, b in zip(nearest.split(), text.split())) >= 3:
            assert labels[nearest] == label
    assert augment(capsys, *arguments, "--output", tmp_path / "again.tsv")["written"] == result["written"]
    assert output.read_bytes() == (tmp_path / "again.tsv").read_bytes()
    augment(capsys, *arguments, "--output", tmp_path / "other.tsv", "--seed", 1)
    assert output.read_bytes() != (tmp_path / "other.tsv").read_bytes()
    if more:
        assert len(examples) == 4 * 6 and "[MASK]" in output.read_text()


def test_what_is_written_trains(capsys, tmp_path, models, data):
    output = tmp_path / "more.tsv"
    augment(capsys, "--method", "tinybert", "--task", "sst-2", "--data", data, "--model", models / "masked-lm",
            "--output", output)
    (data / "train.tsv").unlink()
    output.rename(data / "train.tsv")
    assert cli.main(["finetune", "--task", "sst-2", "--data", str(data), "--model", str(models / "masked-lm"),
                     "--output", str(tmp_path / "tuned"), "--max-steps", "2", "--quiet"]) == 0


def test_pairs_and_word_vectors(capsys, tmp_path, models):
    """catdogs is several pieces: only vectors know what to put in its place."""
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n0\tcatsdogs\tthe dogs\tentailment\n")
    (tmp_path / "glove.txt").write_text("catsdogs 1 0\nlions 1 0.1\nstones 0 1\n")
    arguments = ("--method", "tinybert", "--task", "rte", "--data", tmp_path, "--model", models / "masked-lm")
    augment(capsys, *arguments, "--output", tmp_path / "without.tsv")
    augment(capsys, *arguments, "--output", tmp_path / "with.tsv", "--vectors", tmp_path / "glove.txt")
    without, with_vectors = (read(tmp_path / f"{name}.tsv", LAYOUTS["rte"]) for name in ("without", "with"))
    assert set(without.texts) == {"catsdogs"} and {"catsdogs", "lions"} <= set(with_vectors.texts)
    assert len(set(without.pairs)) > 1 and set(without.labels) == {0}


def test_the_method_decides_how_many(capsys, tmp_path, models, data):
    """16 words, of which few trials are alike: 20 for sst-2 by TinyBERT's code and paper, and by Tang; 30 for wnli."""
    (data / "train.tsv").write_text("sentence\tlabel\n" + " ".join(TEXTS) + "\t1\n")
    for method, head, convention in (("tinybert", "masked-lm", "official"), ("tinybert", "masked-lm", "paper"),
                                     ("tang", "token", "official")):
        result = augment(capsys, "--method", method, "--task", "sst-2", "--data", data, "--model", models / head,
                         "--output", tmp_path / f"{method}-{convention}", "--convention", convention)
        assert 19 <= result["written"] <= 21
    for name in ("train", "dev"):
        (data / f"{name}.tsv").write_text(f"sentence1\tsentence2\tlabel\n{' '.join(TEXTS)}\t1\t1\n")
    result = augment(capsys, "--method", "tinybert", "--task", "wnli", "--data", data, "--model", models / "masked-lm",
                     "--output", tmp_path / "wnli")
    assert 28 <= result["written"] <= 32                        # and the row again, with the second text


def test_for_people_it_says_what_to_do_next(capsys, tmp_path, models, data):
    assert cli.main(["augment", "--method", "tang", "--task", "sst-2", "--data", str(data), "--model",
                     str(models / "token"), "--output", str(tmp_path / "x"), "--trials", "1", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert " rows out of 4 are in " in out and "tinydistill finetune --task sst-2" in out


@pytest.mark.parametrize("left_out", ["--method", "--task", "--data", "--model", "--output"])
def test_what_must_be_given(capsys, left_out):
    flags = {"--method": "tang", "--task": "sst-2", "--data": "d", "--model": "m", "--output": "o"}
    with pytest.raises(SystemExit) as stopped:
        given = [part for flag in flags if flag != left_out for part in (flag, flags[flag])]
        cli.parser().parse_args(["augment", *given])
    assert stopped.value.code == 2 and left_out in capsys.readouterr().err


def test_runs_are_asked_for(capsys, tmp_path, models, data):
    for name, share in (("none", ()), ("all", ("--n-gram", "1"))):
        augment(capsys, "--method", "tang", "--task", "sst-2", "--data", data, "--model", models / "token",
                "--output", tmp_path / name, "--trials", 30, *share)
    shortest = {name: min(len(text.split()) for text in read(tmp_path / name, LAYOUTS["sst-2"]).texts)
                for name in ("none", "all")}
    assert shortest == {"none": 4, "all": 1}


@pytest.mark.parametrize("change, code, says", [
    ({"--task": "stdlib-modules"}, 2, "need a task in GLUE's files: sst-2, cola"),
    ({"--model": "token"}, 2, "need a model with a masked-lm head"),
    ({"--model": "nowhere"}, 2, "need a model: there is no directory"),
    ({"--data": "nowhere"}, 2, "cannot read"),
    ({"--output": "data/dev.tsv"}, 2, "need a new file for --output: there is already"),
    ({"--output": "nowhere/x.tsv"}, 2, "cannot write"),
    ({"--vectors": "nowhere"}, 2, "cannot read"),
])
def test_wrong_arguments(capsys, tmp_path, models, data, change, code, says):
    asked = {"--method": "tinybert", "--task": "sst-2", "--data": "data", "--model": "masked-lm",
             "--output": "x.tsv"} | change
    places = {"--data": tmp_path, "--model": models, "--output": tmp_path, "--vectors": tmp_path}
    came, err = augment(capsys, *(part for flag, value in asked.items()
                                  for part in (flag, places[flag] / value if flag in places else value)))
    assert came == code and says in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "x.tsv").exists() and not (tmp_path / "x.tsv.part").exists()


def test_the_published_vocabulary_and_cola(tmp_path, capsys):
    """Sentences of CoLA through the words and pieces of BERT: all of them read again with their labels."""
    if "TINYDISTILL_DATA" not in os.environ:
        pytest.skip("TINYDISTILL_DATA is not set: CoLA and BERT's vocabulary are not part of the project")
    data = Path(os.environ["TINYDISTILL_DATA"])
    tokenizer = tokenizers.load(data / "BERT-vocab")
    config = parse("1x8x1").but(vocabulary=tokenizer.get_vocab_size(), head="masked-lm", pooler=False)
    hub.write(Bert(config, 0), tmp_path / "model", tokenizer)
    for name in ("train", "dev"):
        lines = (data / "CoLA" / f"{name}.tsv").read_text("utf-8").splitlines(keepends=True)[:40]
        (tmp_path / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    result = augment(capsys, "--method", "tinybert", "--task", "cola", "--data", tmp_path, "--model",
                     tmp_path / "model", "--output", tmp_path / "more.tsv")
    ours, more = tasks.get("cola").load(tmp_path)["train"], read(tmp_path / "more.tsv", LAYOUTS["cola"])
    assert result["written"] == len(more) > 40 * 15 and len(more) <= 40 * 31
    found = set(zip(more.texts, more.labels))
    assert set(zip(ours.texts, ours.labels)) <= found
