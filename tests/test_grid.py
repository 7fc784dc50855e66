"""`--grid`: every combination once, a table at the end, and going on after those that are done."""

import json

import pytest

from test_cli import corpus, run, run_json, teacher  # noqa: F401 (fixtures)
from test_distill import QUICK, reviews, tuned  # noqa: F401 (fixtures)
from tinydistill.commands import grid
from tinydistill.errors import WrongUsage
from tinydistill.methods import METHODS, bert


def test_points_are_all_combinations_in_order():
    assert grid.points(["lr=1e-3,1e-4", "alpha=0.2"], {"alpha": 0.5}, {}) == [
        {"lr": 1e-3, "alpha": 0.2}, {"lr": 1e-4, "alpha": 0.2}]
    pkd = grid.points(["paper"], METHODS["pkd-skip"].settings, {"paper": METHODS["pkd-skip"].grid})
    assert len(pkd) == 3 * 3 * 3 * 4 and pkd[0].keys() == {"alpha", "temperature", "lr", "official_beta"}


@pytest.mark.parametrize("words, text", [
    (["rate=1"], "need --grid NAME=A,B with a name out of lr, epochs, batch_size, warmup, max_steps, seed, alpha; got 'rate=1'"),
    (["lr"], "the name of a published search (here: none); got 'lr'"), (["lr=fast"], "need values of lr parted by commas, got 'fast'"),
    (["epochs=1,0"], "need values of epochs"), (["alpha=x"], "need values of alpha"),
    (["paper"], "the name of a published search (here: none); got 'paper'")])
def test_a_grid_that_cannot_be_is_one_line(words, text):
    with pytest.raises(WrongUsage) as error:
        grid.points(words, {"alpha": 0.5}, {})
    assert text in str(error.value)


def test_searches_in_finetuning_have_names():
    found = grid.points(["minilm"], {}, bert.GRIDS)
    assert len(found) == 4 * 3 and {point["lr"] for point in found} == {2e-5, 3e-5, 4e-5, 5e-5}
    assert {point["epochs"] for point in found} == {3, 4, 5} and len(grid.points(["bert"], {}, bert.GRIDS)) == 18
    rates = [point["lr"] for point in grid.points(["bert-vision"], {}, bert.GRIDS)]
    assert (min(rates), max(rates)) == (1e-6, 1e-3)


def test_finetuning_over_a_grid_prints_the_best_first_and_goes_on(capsys, teacher, reviews, tmp_path):  # noqa: F811
    arguments = ["finetune", "--task", "sst-2", "--model", teacher, "--data", reviews, "--max-steps", 4, "--output",
                 tmp_path / "grid", *QUICK, "--grid", "lr=1e-3,1e-2", "seed=0,1"]
    result = run_json(capsys, *arguments)
    assert [(row["lr"], row["seed"]) for row in result["grid"]] == [(1e-3, 0), (1e-3, 1), (1e-2, 0), (1e-2, 1)]
    assert result["metric"] == "accuracy" and all(0 <= row["accuracy"] <= 1 for row in result["grid"])
    assert (tmp_path / "grid/lr=0.01,seed=1/model.safetensors").exists()
    code, _, error = run(capsys, *arguments)
    assert code == 2 and "need an empty folder for the grid" in error
    kept = json.loads((tmp_path / "grid/grid.json").read_text())
    del kept["lr=0.01,seed=1"]
    kept["lr=0.001,seed=0"]["dev"]["accuracy"] = 2.0            # what is there is taken as it is, not run again
    (tmp_path / "grid/grid.json").write_text(json.dumps(kept))
    import shutil
    shutil.rmtree(tmp_path / "grid/lr=0.01,seed=1")
    again = run_json(capsys, *arguments, "--resume")
    assert again["grid"][0]["accuracy"] == 2.0 and again["grid"][3] == result["grid"][3]
    code, out, _ = run(capsys, *arguments, "--resume")
    lines = out.splitlines()
    assert code == 0 and lines[0].split()[:3] == ["lr", "seed", "accuracy"] and "2.0000" in lines[1]


def test_a_method_over_a_grid_of_its_settings(capsys, tuned, reviews, tmp_path):  # noqa: F811
    result = run_json(capsys, "distill", "--method", "kd", "--teacher", tuned, "--task", "sst-2", "--data", reviews,
                      "--student", "1x16x2", "--max-steps", 2, "--output", tmp_path / "grid", *QUICK, "--grid",
                      "temperature=1,5")
    assert [row["temperature"] for row in result["grid"]] == [1.0, 5.0]
    runs = [json.loads((tmp_path / f"grid/temperature={t}/run.json").read_text()) for t in (1.0, 5.0)]
    assert [run["settings"]["temperature"] for run in runs] == [1.0, 5.0]


def test_a_corpus_is_ranked_by_the_held_out_loss(capsys, teacher, corpus, tmp_path):  # noqa: F811
    result = run_json(capsys, "distill", "--method", "minilm", "--teacher", teacher, "--student", "1x16x2", "--corpus", corpus,
                      "--max-steps", 3, "--output", tmp_path / "grid", *QUICK, "--grid", "lr=1e-9,1e-2")
    assert result["lower is better"] and result["metric"] == "minilm.attention"
    assert grid.text(result).splitlines()[1].split()[0] == "0.0100"
