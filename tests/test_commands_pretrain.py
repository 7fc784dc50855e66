"""`tinydistill pretrain` on rows and on sentence pairs: what it learns and leaves, how it goes on, how it fails."""

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from oracle import bert as oracle
from test_cli import metrics, run, run_json
from tinydistill.hub_names import FORMS
from tinydistill import cli, hub
from tinydistill.commands import pretrain as command
from tinydistill.data import corpora, tokenizer as tokenizers
from tinydistill.features import Batch, Needs, Pass
from tinydistill.methods import bert

NOUNS = "value name file row reader line table key index number object method".split()
QUICK = ["--vocabulary", "90", "--max-length", "24", "--batch-size", "16", "--quiet"]
STEPS = 300


def sentence(document, draw):
    """Four of the two nouns that a document is about: whoever counts them knows which sentences belong together."""
    about = NOUNS[2 * (document % 6):][:2]
    return "the " + " ".join(draw.choice(about) for _ in range(4))


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("documents") / "text.txt"
    drawn = [(d, random.Random(d)) for d in range(72)]
    path.write_text("\n\n".join("\n".join(sentence(d, draw) for _ in range(10)) for d, draw in drawn))
    return str(path)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, documents):
    """A run directory of both terms."""
    path = tmp_path_factory.mktemp("pretrained") / "run"
    assert cli.main(["pretrain", "--pairs", "--student", "2x32x2", "--corpus", documents, "--lr", "0.01", "--max-steps",
                     str(STEPS), "--output", str(path), *QUICK]) == 0
    return str(path)


# ---------------------------------------------------------------- what it learns

def test_both_losses_go_down(pretrained):
    first, *_, last = lines = metrics(pretrained)
    for line in lines:
        assert line["loss"] == pytest.approx(line["masked_lm"] + line["next_sentence"])
    assert last["masked_lm"] < 0.5 * first["masked_lm"]
    assert np.mean([line["next_sentence"] for line in lines[-5:]]) < 0.65 * math.log(2)      # nouns are hidden, too
    terms = [(weight, term.name) for weight, term in bert.pretrain_pairs.terms]
    assert terms == [(1.0, "masked_lm"), (1.0, "next_sentence")]


def test_it_tells_pairs_of_one_document_from_those_of_two(pretrained):
    """Of sentences that it never read; class 0 is that the second follows."""
    model, tokenizer = hub.read(pretrained, head="pretraining", require_head=True), tokenizers.load(pretrained)
    right = 0
    for d in range(12):
        for other, label in ((d, 0), (d + 1, 1)):
            draw = random.Random(1000 + d)
            ids = tokenizer.encode(sentence(d, draw), sentence(other, draw))
            batch = Batch(np.array([ids.ids]), np.ones((1, len(ids.ids)), bool), np.array([ids.type_ids]))
            right += model(batch, Pass(Needs.of(next_sentence=True))).next_sentence.array[0].argmax() == label
    assert right >= 20                              # of 24; a coin gets there one time in 1,300


def test_what_it_leaves_is_berts_own_model_of_pre_training(pretrained):
    found = oracle.opened(pretrained, "BertForPreTraining")
    assert found.config.architectures == ["BertForPreTraining"]
    model = hub.read(pretrained, head="pretraining", require_head=True)
    theirs = {name.removeprefix("bert."): x.numpy() for name, x in found.state_dict().items()}
    for name, x in model.arrays().items():
        np.testing.assert_array_equal(x, theirs[FORMS["bert"].name(name)], err_msg=name)
    assert hub.read(pretrained).config.head == "masked-lm"              # to distil from, and to fill masks with
    tuned = hub.read(pretrained, head="sequence", labels=("no", "yes"))
    np.testing.assert_array_equal(tuned.pooler.weight.array, model.pooler.weight.array)


def test_the_run_says_what_was_read(pretrained, documents):
    kept = json.loads(Path(pretrained, "run.json").read_text())
    assert (kept["pairs"], kept["masking"], kept["mask_rate"], kept["corpus"]) == (True, "bert", 0.2, documents)
    assert kept["rows"] > 72                        # pairs, of 720 sentences


def test_without_pairs_it_reads_rows_and_has_no_pooler(capsys, documents, tmp_path):
    result = run_json(capsys, "pretrain", "--student", "1x16x2", "--corpus", documents, "--max-steps", 3, "--output",
                      tmp_path / "run", *QUICK)
    assert result["held_out"].keys() == {"masked_lm"} and "next_sentence" not in result
    config = hub.read(tmp_path / "run").config
    assert (config.head, config.pooler) == ("masked-lm", False)
    kept = json.loads((tmp_path / "run/run.json").read_text())
    assert kept["pairs"] is False and kept["rows"] == len(corpora.parts(documents)[0])


# ---------------------------------------------------------------- what is read

def briefly(capsys, documents, output, *more):
    return run_json(capsys, "pretrain", "--student", "1x16x2", "--corpus", documents, "--max-steps", 4, "--output",
                    output, *QUICK, *more)


def test_each_masking_is_another_run_on_the_same_held_out_rows(capsys, documents, tmp_path):
    """A second run of each is the first to the bit, held-out losses too."""
    found = {}
    for name in ("bert", "counted", "frequency"):
        one, two = (briefly(capsys, documents, tmp_path / f"{name}{i}", "--pairs", "--masking", name) for i in range(2))
        assert (one["sha256"], one["held_out"]) == (two["sha256"], two["held_out"])
        assert json.loads((tmp_path / f"{name}0/run.json").read_text())["masking"] == name
        found[one["sha256"]] = one["held_out"]["masked_lm"]
    assert len(found) == len(set(found.values())) == 3


@pytest.mark.parametrize("pairs", [True, False])
def test_the_tokenizer_and_the_masking_know_nothing_of_held_out_text(capsys, documents, tmp_path, monkeypatch, pairs):
    learned, counted = [], []
    train, masking = tokenizers.train_wordpiece, command.inputs.masking
    monkeypatch.setitem(tokenizers.KINDS, "wordpiece", lambda rows, size: train(learned.extend(rows) or learned, size))
    monkeypatch.setattr(command.inputs, "masking", lambda *given: counted.append(given[2]) or masking(*given))
    briefly(capsys, documents, tmp_path / "run", *["--pairs"] * pairs, "--masking", "frequency")
    rows, _ = corpora.parts(documents, of_documents=pairs)
    assert learned == ([text for document in rows for text in document] if pairs else rows)
    batches, = counted
    assert len(batches.sequences) == json.loads((tmp_path / "run/run.json").read_text())["rows"]


# ---------------------------------------------------------------- going on

def test_a_stopped_run_goes_on_to_the_same_bits(capsys, documents, tmp_path):
    arguments = ("--pairs", "--max-steps", 7, "--save-every", 3, "--masking", "frequency")
    whole = briefly(capsys, documents, tmp_path / "whole", *arguments)
    part = tmp_path / "part"
    shutil.copytree(tmp_path / "whole", part)
    for file in ("model.safetensors", "config.json", "report.html"):
        (part / file).unlink(missing_ok=True)
    shutil.rmtree(part / "checkpoints/step-7")      # the end is lost, what is before it is kept
    (part / "checkpoints/LATEST").write_text((part / "checkpoints/LATEST").read_text().replace("step-7", "step-6"))
    resumed = briefly(capsys, documents, part, *arguments, "--resume")
    assert (resumed["sha256"], resumed["held_out"]) == (whole["sha256"], whole["held_out"])
    for change in (["--masking", "bert"], ["--max-steps", 8]):
        code, _, error = run(capsys, "pretrain", "--student", "1x16x2", "--corpus", documents, "--output", part, *QUICK,
                             *map(str, arguments), *change, "--resume")
        assert code == 2 and len(error.strip().splitlines()) == 1


# ---------------------------------------------------------------- what cannot be

@pytest.mark.parametrize("content, arguments, text", [
    (None, ["--corpus", "hf:nobody/nothing"], "need a corpus of documents for sentence pairs: stdlib, or text files"),
    ("one\ntwo\nthree", [], "need at least two documents, with a blank line between them; FILE has 1"),
    ("one\n\ntwo\n\nthree", [], "need at least 4 documents that differ in their words, 2 of them to hold out; got 3"),
    ("the a\n\nthe b\n\nthe c\n\nthe d", ["--max-length", "4"], "need a maximum length with room for 3 special tokens"),
    ("the a\n\nthe b\n\nthe c\n\nthe d", ["--max-length", "513"], "of at most the model's 512 positions, got 513")])
def test_pairs_that_cannot_be_are_one_line(capsys, tmp_path, content, arguments, text):
    path = tmp_path / "text.txt"
    path.write_text(content or "")
    code, out, error = run(capsys, "pretrain", "--pairs", "--student", "1x16x2", "--corpus", path, *QUICK, "--output",
                           tmp_path / "run", *arguments)
    assert code == 2 and out == "" and text.replace("FILE", str(path)) in error
    assert len(error.strip().splitlines()) == 1 and not (tmp_path / "run").exists()


def test_a_masking_that_there_is_not_is_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", "--student", "1x16x2", "--output", "x", "--masking", "span"])
    assert stopped.value.code == 2 and "'bert', 'counted', 'one', 'frequency'" in capsys.readouterr().err.replace("\n", " ")
