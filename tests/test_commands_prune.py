"""`tinydistill prune`: heads go step by step, a stopped run goes on with the same heads, and errors in one line."""

import json

import numpy as np
import pytest

from test_cli import corpus, metrics, run, run_json, teacher  # noqa: F401 (fixtures)
from test_distill import reviews, tuned  # noqa: F401 (fixtures)
from tinydistill import hub
from tinydistill.compress.pruned_bert import PrunedBert

QUICK = ["--quiet", "--batch-size", "8", "--max-length", "24"]


def prune(capsys, model, data, output, *more):
    return run_json(capsys, "prune", "--task", "sst-2", "--model", model, "--data", data, "--output", output, *QUICK,
                    *more)


def test_a_model_is_pruned_and_fine_tuned_step_by_step(capsys, tuned, reviews, tmp_path):  # noqa: F811
    result = prune(capsys, tuned, reviews, tmp_path / "run", "--keep", 0.5, "--step", 0.25, "--max-steps", 6)
    before, after = hub.read(tuned), hub.read(tmp_path / "run")
    assert type(after) is PrunedBert and sum(after.config.heads_kept) == 2
    assert result["heads"] == list(after.config.heads_kept)
    assert result["parameters_before"] - result["parameters"] == 2 * (4 * 16 * 8 + 3 * 8)
    assert len(metrics(tmp_path / "run")) >= 2 and metrics(tmp_path / "run")[-1]["step"] == 6
    assert (after.embeddings.word.weight.array != before.embeddings.word.weight.array).any()
    assert set(result["dev"]) == set(result["before"]["dev"]) and result["cross_entropy"] > 0
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert len(described["steps"]) == 2 and described["keep"] == 0.5
    code, out, _ = run(capsys, "evaluate", "--task", "sst-2", "--model", tmp_path / "run", "--data", reviews)
    assert code == 0 and "accuracy" in out
    code, _, error = run(capsys, "prune", "--task", "sst-2", "--model", tuned, "--data", reviews, "--output",
                         tmp_path / "run", *QUICK, "--keep", 0.5, "--step", 0.25, "--max-steps", 6, "--resume")
    assert code == 3 and "is finished" in error
    again = prune(capsys, tmp_path / "run", reviews, tmp_path / "more", "--keep", 0.5, "--epochs", 0)
    assert sum(again["heads"]) == 1


def test_a_stopped_run_goes_on_with_the_same_heads(capsys, tuned, reviews, tmp_path):  # noqa: F811
    arguments = ("--keep", 0.5, "--step", 0.25, "--max-steps", 6, "--save-every", 2)
    prune(capsys, tuned, reviews, tmp_path / "whole", *arguments)
    prune(capsys, tuned, reviews, tmp_path / "part", *arguments)
    checkpoints = tmp_path / "part/checkpoints"
    for path in ("model.safetensors", "config.json"):
        (tmp_path / "part" / path).unlink()
    *_, before, last = sorted(path.name for path in checkpoints.glob("step-*"))         # fewer than ten steps
    for file in (checkpoints / last).iterdir():
        file.unlink()
    (checkpoints / last).rmdir()
    latest = checkpoints / "LATEST"
    latest.write_text(latest.read_text().replace(last, before))
    prune(capsys, tuned, reviews, tmp_path / "part", *arguments, "--resume")
    assert hub.fingerprint(tmp_path / "part") == hub.fingerprint(tmp_path / "whole")


def test_without_training_only_heads_go(capsys, tuned, reviews, tmp_path):  # noqa: F811
    result = prune(capsys, tuned, reviews, tmp_path / "run", "--keep", 0.75, "--epochs", 0, "--importance", "token",
                   "--one-a-layer", "--score-batches", 2)
    before, after = hub.read(tuned), hub.read(tmp_path / "run")
    assert sorted(after.config.heads_kept) == [1, 2] and "learning_rate" not in result
    np.testing.assert_array_equal(after.embeddings.word.weight.array, before.embeddings.word.weight.array)
    (layer,) = (l for l in range(2) if after.config.heads_kept[l] == 1)
    ours, whole = (model.arrays()[f"layers.{layer}.attention.query.weight"] for model in (after, before))
    assert (ours == whole[:8]).all() or (ours == whole[8:]).all()
    code, out, _ = run(capsys, "prune", "--task", "sst-2", "--model", tuned, "--data", reviews, "--output",
                       tmp_path / "text", *QUICK, "--epochs", 0)
    assert code == 0 and "heads of each layer: " in out and "parameters: " in out and "dev: accuracy" in out


@pytest.mark.parametrize("more, needed", [
    (("--keep", 1), "need a share of heads to keep that takes some out: 4 heads stay"),
    (("--keep", 0, "--one-a-layer"), "need 1 more heads to take out than can go"),
    (("--keep", 1.5), "need a share of heads to keep from 0 to 1"), (("--step", 0), "steps above 0")])
def test_what_cannot_be_pruned(capsys, tuned, reviews, tmp_path, more, needed):  # noqa: F811
    code, _, error = run(capsys, "prune", "--task", "sst-2", "--model", tuned, "--data", reviews, "--output",
                         tmp_path / "run", *QUICK, *more)
    assert code == 2 and needed in error and "Traceback" not in error


def test_a_model_that_is_not_fine_tuned_is_refused(capsys, teacher, reviews, tmp_path):  # noqa: F811
    code, _, error = run(capsys, "prune", "--task", "sst-2", "--model", teacher, "--data", reviews, "--output",
                         tmp_path / "run", *QUICK)
    assert code == 2 and "need a model with a sequence head" in error
