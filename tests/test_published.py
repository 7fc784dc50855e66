"""Published code beside the vectors: what comes out is what the table expects, and claimed defects reproduce.

Packages that are not installed are skipped: `pip install "tinydistill[published]"`, and see the table of the README.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tinydistill_reference.examples import __main__ as command
from tinydistill_reference.examples import published

EXAMPLES = Path(published.__file__).parent
REPRODUCTIONS = {"repro_textbrewer_att_mse": "textbrewer", "repro_torchdistill_kd_loss_defaults": "torchdistill",
                 "repro_torchdistill_kd_loss_t_squared": "torchdistill", "repro_liger_kernel_value": "liger-kernel"}
GOT = {"repro_textbrewer_att_mse": "expected 6.5, got 4.5",
       "repro_torchdistill_kd_loss_defaults": "got TypeError: unsupported operand type",
       "repro_torchdistill_kd_loss_t_squared": "expected 1.311253, got 0.327813 for alpha = 0 and 1.311253",
       "repro_liger_kernel_value": r"\(torch.float64\), got .* \(torch.float32\)"}


def needs(package):
    """Skip where it is not installed."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(scope="module")
def table():
    """(exit code, {package: rows}), by the command."""
    done = subprocess.run([sys.executable, "-m", "tinydistill_reference.examples", "--json"], capture_output=True,
                          text=True, timeout=600)
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads(done.stdout)["rows"]
    return done.returncode, {p.name: [r for r in rows if r["package"] == p.name] for p in published.PACKAGES}


@pytest.mark.parametrize("package", [p.name for p in published.PACKAGES])
def test_every_row_is_as_expected(table, package):
    needs(package)
    rows = table[1][package]
    assert rows and not [published.line(row) for row in rows if not row["as_expected"]]


def test_the_exit_code_says_so(table):
    code, rows = table
    assert code == (not all(r["as_expected"] for each in rows.values() for r in each if r["status"] != "not installed"))


def test_pytorch_and_transformers_have_their_rows(table):
    needs("torch"), needs("transformers")
    functions = {row["function"] for each in ("torch", "transformers") for row in table[1][each]}
    assert {"F.kl_div", "F.cross_entropy", "F.layer_norm", "F.gelu", "F.scaled_dot_product_attention", "nn.LSTM",
            "nn.LSTMCell", "nn.Embedding", "nn.CosineEmbeddingLoss", "torch.optim.AdamW", "torch.optim.Adadelta",
            "nn.utils.clip_grad_norm_", "BertForMaskedLM", "MobileBertForMaskedLM", "SqueezeBertSelfAttention",
            "get_linear_schedule_with_warmup"} <= functions


def test_something_is_tested_in_every_row(table):
    for row in (r for each in table[1].values() for r in each if r["status"] == "ran"):
        assert all(result["ran"] for result in row["results"].values()), published.line(row)


# ---------------------------------------------------------------- what the command says

def kl_div():
    needs("torch")
    from tinydistill_reference.examples import published_torch
    return published_torch.PUBLISHED[0]


def test_a_release_that_changes_is_noticed(monkeypatch, capsys):
    entry = replace(kl_div(), expected="pkd")
    package = published.PACKAGES[0]
    monkeypatch.setattr(published, "rows", lambda packages: [published.row(package, "9.9", entry)])
    assert command.main([]) == 1
    assert re.search(r"NEW +torch 9\.9 .* paper \(9 of 9\)  expected float32: pkd; float64: pkd",
                     capsys.readouterr().out)


def test_what_is_not_installed_is_told_and_skipped(monkeypatch, capsys):
    absent = published.Package("no-such-distribution-of-losses", "published_none", "no-such-distribution-of-losses==1")
    monkeypatch.setattr(published.rows, "__defaults__", ((absent,), published.DTYPES))
    monkeypatch.setattr(published, "PACKAGES", (absent,))
    assert command.main([]) == 3
    assert "not installed: pip install no-such-distribution-of-losses==1" in capsys.readouterr().out


def test_the_markdown_is_a_table(monkeypatch, capsys):
    monkeypatch.setattr(published, "rows", lambda packages: [published.row(published.PACKAGES[0], "9.9", kl_div())])
    assert command.main(["--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].startswith("| torch 9.9 | `F.kl_div` batchmean, times T^2 |")
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


# ---------------------------------------------------------------- claimed defects

def test_every_claim_has_a_reproduction():
    """And every reproduction a claim."""
    there = {path.stem for path in EXAMPLES.glob("repro_*.py")}
    named = {name for path in EXAMPLES.glob("published_*.py")
             for name in re.findall(r"(repro_\w+)\.py", path.read_text(encoding="utf-8"))}
    assert there == named == REPRODUCTIONS.keys() == GOT.keys()


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_a_claimed_defect_reproduces(name):
    needs(REPRODUCTIONS[name])
    done = subprocess.run([sys.executable, str(EXAMPLES / f"{name}.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(GOT[name], done.stdout), done.stdout
