"""`tinydistill distill` on sentence pairs and on text masked in another way: what stages read, and what is refused."""

import json

import numpy as np
import pytest

from test_cli import corpus, run, run_json, teacher  # noqa: F401 (fixtures)
from test_commands_pretrain import documents, pretrained  # noqa: F401 (fixtures)
from test_distill import on_task, reviews, tuned  # noqa: F401 (fixtures)
from tinydistill import hub
from tinydistill.commands import distill as command
from tinydistill.data import corpora, inputs, tokenizer as tokenizers
from tinydistill.features import IGNORED
from tinydistill.methods.stage import Recipe

QUICK = ["--max-length", "24", "--batch-size", "16", "--quiet"]


@pytest.fixture
def first_batches(monkeypatch):
    """{stage: its batch of step 0}, of every run from now on."""
    seen, phase = {}, command.Phase

    def noted(stage, recipe, batch_at, *more):
        seen[stage.name] = batch_at(0)
        return phase(stage, recipe, batch_at, *more)
    monkeypatch.setattr(command, "Phase", noted)
    return seen


@pytest.fixture
def distil(capsys, pretrained, documents, tmp_path):  # noqa: F811
    """distil("mlm-kd", ...): the JSON of a short run, and its run.json."""
    def make(method, *more, name="run"):
        result = run_json(capsys, "distill", "--method", method, "--teacher", pretrained, "--student", "1x32x2",
                          "--corpus", documents, "--max-steps", 6, "--output", tmp_path / name, *QUICK, *more)
        return result, json.loads((tmp_path / name / "run.json").read_text())
    return make


def of_text(documents, pretrained, pairs, seed=0):  # noqa: F811
    """The batches that a run reads before any masking, and the tokenizer."""
    tokenizer, recipe = tokenizers.load(pretrained), Recipe(steps=6, batch_size=16, learning_rate=0.1, max_length=24)
    rows, _ = corpora.parts(documents, of_documents=pairs)
    return (inputs.paired if pairs else inputs.plain)(rows, tokenizer, recipe, seed), tokenizer


# ---------------------------------------------------------------- pairs

def test_tinybert_reads_pairs_with_their_token_types(distil, first_batches, documents, pretrained):  # noqa: F811
    result, kept = distil("tinybert", "--pairs")
    batch, (batches, _) = first_batches["general"], of_text(documents, pretrained, pairs=True)
    for name in ("ids", "mask", "token_types"):
        assert np.array_equal(getattr(batch, name), getattr(batches.at(0), name))
    assert set(batch.token_types.ravel()) == {0, 1}
    train, _ = corpora.parts(documents, of_documents=True)
    assert (kept["pairs"], kept["rows"], kept["masking"]) == (True, len(train), {})
    assert all(result["held_out"][name] < before for name, before in result["held_out_before"].items())
    _, kept = distil("tinybert", name="rows")
    assert first_batches["general"].token_types is None
    assert (kept["pairs"], kept["rows"]) == (False, len(corpora.parts(documents)[0]))


def test_epochs_are_those_of_pairs(distil, documents, pretrained):  # noqa: F811
    """The paper's three, of what the documents make: 6 of their steps, and all of them."""
    batches, _ = of_text(documents, pretrained, pairs=True)
    _, kept = distil("tinybert", "--pairs", "--recipe", "paper", "--max-steps", 1000, "--batch-size", 128)
    assert kept["recipe"]["epochs"] == 3 and kept["recipe"]["steps"] == 3 * -(-len(batches.sequences) // 128)


def test_a_cached_teacher_reads_the_same_pairs(distil, tmp_path):
    one, two = (distil("minilm", "--pairs", "--cache-teacher", tmp_path / "cache", name=name)[0] for name in "ab")
    assert one["sha256"] == two["sha256"]
    with pytest.raises(AssertionError, match=r"cache in .* is another, of rows .* documents .*\(here .* rows"):
        distil("minilm", "--cache-teacher", tmp_path / "cache", name="c")


def test_pre_training_on_the_way_to_a_task_reads_pairs(capsys, first_batches, tuned, reviews, documents,  # noqa: F811
                                                       tmp_path):
    on_task(capsys, "turc", [tuned], reviews, tmp_path / "run", "--max-steps", 6, "--corpus", documents, "--pairs",
            "--masking", "counted")
    assert set(first_batches["pretrain"].token_types.ravel()) == {0, 1}
    assert first_batches["distil"].token_types is None or not first_batches["distil"].token_types.any()
    kept = json.loads((tmp_path / "run/run.json").read_text())
    assert (kept["corpus"], kept["pairs"], kept["task"]) == (documents, True, "sst-2")
    assert kept["masking"] == {"pretrain": "counted"}


# ---------------------------------------------------------------- masking

@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "rows"])
@pytest.mark.parametrize("flags, name", [
    ([], "bert"), (["--convention", "official"], "frequency"), (["--masking", "frequency"], "frequency"),
    (["--convention", "official", "--masking", "counted"], "counted")], ids=["paper", "official", "asked", "asked otherwise"])
def test_distilbert_hides_what_its_convention_hides(distil, first_batches, documents, pretrained,  # noqa: F811
                                                    flags, name, pairs):
    _, kept = distil("distilbert", "--mask-rate", 0.3, *flags, *["--pairs"] * pairs)
    assert kept["masking"] == {"distil": name} and kept["mask_rate"] == 0.3
    batches, tokenizer = of_text(documents, pretrained, pairs)
    batch, read = batches.at(0), first_batches["distil"]
    for other in inputs.MASKINGS:
        ids, labels = inputs.masking(other, tokenizer, batches)(batch.ids, batch.mask, batch.rows, 0.3, 0, 0)
        same = np.array_equal(read.ids, ids) and np.array_equal(read.labels, labels)
        assert same == (other == name)
    assert np.array_equal(read.positions, np.flatnonzero(batch.mask))   # soft labels of every real token
    assert 0.1 < (read.labels != IGNORED).sum() / batch.mask.sum() < 0.5
    if pairs:
        assert np.array_equal(read.next_sentence, batch.labels)


def test_a_pretraining_teacher_teaches_masked_words(distil, first_batches):
    result, kept = distil("mlm-kd", "--pairs", "--masking", "counted")
    assert result["held_out"].keys() == result["held_out_before"].keys() and kept["masking"] == {"distil": "counted"}
    batch = first_batches["distil"]
    counts = (batch.labels != IGNORED).sum(1)
    assert np.array_equal(counts, np.maximum(1, np.rint(0.15 * batch.mask.sum(1))))
    assert np.array_equal(batch.positions, np.flatnonzero(batch.labels != IGNORED))


# ---------------------------------------------------------------- what cannot be

@pytest.mark.parametrize("arguments, text", [
    (["--method", "tinybert", "--pairs", "--corpus", "hf:a/b"], "need a corpus of documents for sentence pairs"),
    (["--method", "tinybert", "--pairs"], "need at least two documents, with a blank line between them; CORPUS has 1"),
    (["--method", "minilm", "--masking", "counted"], "need a stage that reads masked text for --masking; the stages "
                                                     "here read text"),
    (["--method", "kd", "--task", "sst-2", "--pairs"], "need a stage that reads a corpus for --pairs; the stages here "
                                                       "read task"),
    (["--method", "kd", "--task", "sst-2", "--masking", "bert"], "need a stage that reads masked text for --masking"),
    (["--method", "mlm-kd", "--cache-teacher", "CACHE"], "a teacher cache needs the same tokens in every epoch, and "
                                                         "distil reads masked text, masked anew each time: leave "
                                                         "--cache-teacher out")])
def test_what_cannot_be_read_is_one_line(capsys, teacher, reviews, corpus, tmp_path, arguments, text):  # noqa: F811
    arguments = [str(tmp_path / "cache") if word == "CACHE" else word for word in arguments]
    code, out, error = run(capsys, "distill", "--teacher", teacher, "--student", "1x16x2", "--corpus", corpus, "--data",
                           reviews, "--output", tmp_path / "run", *arguments, "--quiet")
    assert code == 2 and out == "" and text.replace("CORPUS", corpus) in error
    assert len(error.strip().splitlines()) == 1 and not (tmp_path / "run").exists() and hub.WEIGHTS not in error
