"""The list of tasks, and the commands on a task of pairs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tinydistill import cli, hub, tasks
from tinydistill.data.tokenizer import train_wordpiece
from tinydistill.errors import WrongUsage
from tinydistill.students.bert import Bert
from tinydistill.architectures import parse


def test_tasks_are_found_by_name():
    assert list(tasks.TASKS) == ["stdlib-replaced", "stdlib-modules", "sst-2", "cola", "mrpc", "qqp", "mnli", "qnli",
                                 "rte", "wnli", "tagging"]
    for name, task in tasks.TASKS.items():
        assert tasks.get(name) is task and task.name == name
        assert task.what and task.source and task.kind in ("sequence", "token")
        assert task.metric in ("accuracy", "auc", "matthews")
    with pytest.raises(WrongUsage, match="need a task out of stdlib-replaced, .*, wnli, tagging; got 'sst2'"):
        tasks.get("sst2")


def test_the_list_of_tasks_imports_nothing_heavy():
    code = ("import sys, tinydistill.tasks; "
            "print(sorted({'tokenizers', 'datasets', 'scipy', 'matplotlib', 'safetensors'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(tasks.__file__).parents[2])
    assert done.stdout.strip() == "[]"


def test_finetune_and_evaluate_on_pairs(tmp_path, capsys):
    """The first text is the same everywhere: the second has the answer. In dev-mismatched every answer is another."""
    answers = {"yes": "entailment", "no": "contradiction", "perhaps": "neutral"}
    others = dict(zip(answers, list(answers.values())[1:] + list(answers.values())[:1]))
    for name, said in (("train", answers), ("dev_matched", answers), ("dev_mismatched", others)):
        rows = [f"is it so\t{word}\t{label}" for word, label in said.items()] * 4
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence1\tsentence2\tgold_label", *rows]), encoding="utf-8")
    tokenizer = train_wordpiece(["is it so yes no perhaps"] * 3, 60)
    config = parse("1x16").but(vocabulary=tokenizer.get_vocab_size(), initial_std=0.2)
    hub.write(Bert(config, 0), tmp_path / "body", tokenizer)
    common = ["--task", "mnli", "--data", str(tmp_path), "--quiet", "--json"]

    def run(*arguments):
        assert cli.main(list(arguments)) == 0
        return json.loads(capsys.readouterr().out)

    result = run("finetune", *common, "--model", str(tmp_path / "body"), "--output", str(tmp_path / "tuned"),
                 "--epochs", "60", "--lr", "1e-2")
    assert result["dev"] == {"accuracy": 1.0} and result["dev-mismatched"] == {"accuracy": 0.0}
    assert run("evaluate", *common, "--model", str(tmp_path / "tuned"))["accuracy"] == 1.0
    assert run("evaluate", *common, "--model", str(tmp_path / "tuned"), "--split", "dev-mismatched")["accuracy"] == 0.0
