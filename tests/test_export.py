"""`tinydistill export` and models by their name on the Hugging Face hub."""

import json
import os
import subprocess
import sys

import pytest

from oracle import families as oracle
from test_hub_families import SMALL, batch_of, build
from tinydistill import cli, hub
from tinydistill.data.tokenizer import train_wordpiece
from tinydistill.errors import WrongUsage


@pytest.fixture
def tokenizer():
    return train_wordpiece(["the cat sat on the mat", "a dog sat"], 37)


@pytest.mark.parametrize("family", SMALL)
def test_an_export_opens_in_transformers(tmp_path, capsys, tokenizer, family):
    model = build(SMALL[family], "masked-lm")
    hub.write(model, tmp_path / "run", tokenizer)
    assert cli.main(["export", "--json", "--model", str(tmp_path / "run"), "--output", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    twin, architecture = oracle.opened(tmp_path / "out")
    assert result["architecture"] == architecture and len(result["sha256"]) == 64
    oracle.outputs(twin, batch_of(model))
    assert cli.main(["export", "--model", str(tmp_path / "run"), "--output", str(tmp_path / "out")]) == 3
    assert cli.main(["export", "--model", str(tmp_path / "run"), "--output", str(tmp_path / "body"), "--head", "none"]) == 0
    assert oracle.opened(tmp_path / "body")[1] == architecture.replace("ForMaskedLM", "Model")


def test_what_transformers_cannot_express_is_one_line(tmp_path, capsys, tokenizer):
    hub.write(build("ib-bert-2x24x3"), tmp_path / "run", tokenizer)
    assert cli.main(["export", "--model", str(tmp_path / "run"), "--output", str(tmp_path / "out")]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert "transformers cannot express MobileBERT 2x24: queries and keys read the block's input" in line


@pytest.mark.parametrize("name", ["nowhere/at/all", "/nowhere", "./nowhere", "../nowhere"])
def test_a_path_that_is_none_is_not_looked_for_on_the_hub(name):
    with pytest.raises(WrongUsage, match=f"need a teacher: there is no directory {name}$"):
        hub.located(name, "a teacher")


@pytest.mark.parametrize("name", ["bert-base-uncased", "owner/model"])
def test_a_hub_that_cannot_be_reached_says_so_at_once(tmp_path, name):
    """In a process of its own, told by huggingface_hub's own switch that there is no network."""
    code = f"from tinydistill import hub; hub.located({name!r}, 'a teacher')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "need a teacher: there is no directory" in done.stderr and "the Hugging Face hub cannot be reached" in done.stderr


def test_a_model_in_the_cache_of_the_hub_is_found_without_a_network(tmp_path):
    """As huggingface_hub lays it out: refs/main names a commit, snapshots/COMMIT holds the files."""
    cache = tmp_path / "hub" / "models--owner--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    model = build("2x24x3", "masked-lm")
    hub.write(model, cache / "snapshots" / ("0" * 40))
    code = "from tinydistill import hub; print(hub.read(hub.located('owner/model')).config)"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "BERT 2x24", done.stderr
