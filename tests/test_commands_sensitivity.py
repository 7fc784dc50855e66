"""`tinydistill sensitivity`: Q-BERT's Omega of each layer from one command, and bits that add up."""

import json

import numpy as np
import pytest

from tinydistill import cli, hub
from tinydistill.architectures import parse
from tinydistill.compress import qbert
from tinydistill.commands import sensitivity as command
from tinydistill.data import inputs, tokenizer as tokenizers
from tinydistill.methods import bert
from tinydistill.students.bert import Bert
from tinydistill.tasks import get


@pytest.fixture
def models(tmp_path):
    """A folder of sst-2-like data and a directory with a small model of it."""
    rows = [f"the {'value' if i % 2 else 'name'} of file {i}\t{i % 2}" for i in range(12)]
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text("sentence\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    tokenizer = tokenizers.train_wordpiece(rows, 60)
    config = parse("2x8x2").but(vocabulary=tokenizer.get_vocab_size(), positions=16, head="sequence",
                                labels=("negative", "positive"), initial_std=0.3)
    hub.write(Bert(config, 3), tmp_path / "model", tokenizer)
    return tmp_path


def run(capsys, models, *more):
    code = cli.main(["sensitivity", "--task", "sst-2", "--data", str(models), "--model", str(models / "model"),
                     "--batch-size", "4", "--json", *more])
    out, err = capsys.readouterr()
    return json.loads(out) if code == 0 else (code, err)


def test_it_is_the_sensitivity_of_the_papers_curvatures(capsys, models):
    result = run(capsys, models, "--batches", "2", "--bits", "3")
    model, tokenizer = hub.read(models / "model").to(np, np.float64), tokenizers.load(models / "model")
    rows = inputs.labelled(get("sst-2").open(str(models))[1]["train"], tokenizer,
                           bert.finetune.recipes["laptop"].but(batch_size=4, max_length=16), 0)
    truth = qbert.sensitivity(model, command.loss, [rows.at(0), rows.at(1)], 0)
    found = [layer["sensitivity"] for layer in result["layers"]]
    np.testing.assert_allclose(found, truth, rtol=1e-12)
    assert min(found) > 0 and (result["rows"], result["subsets"]) == (8, 2)
    bits = [layer["bits"] for layer in result["layers"]]
    assert result["bits"] == ",".join(map(str, bits)) and sum(bits) / len(bits) <= 3 and bits == qbert.allocate(truth, 3.0)


def test_what_cannot_be_is_one_line(capsys, models):
    code, err = run(capsys, models, "--bits", "1")
    assert code == 2 and "need an average of at least 2 bits, got 1.0" in err
    assert cli.main(["sensitivity", "--task", "sst-2", "--data", str(models), "--model", "./nowhere"]) == 2
    assert "need a model: there is no directory ./nowhere" in capsys.readouterr().err
