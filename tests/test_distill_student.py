"""`tinydistill distill` into a BiLSTM: its word vectors, sentences and pairs, and a run from a task to answers."""

import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from test_cli import corpus, run, run_json, teacher  # noqa: F401 (fixtures)
from test_distill import QUICK, reviews  # noqa: F401 (a fixture)
from tinydistill import cli, hub, methods, tasks
from tinydistill.commands.distill_student import begun, configured
from tinydistill.data import tokenizer as tokenizers
from tinydistill.students.bilstm import EMBEDDINGS, BiLstmConfig

KNOWN = {"the": 1.0, "value": 2.0, "reader": 3.0}           # words of the task, each with a vector like no drawn one


@pytest.fixture(scope="module")
def entailment(tmp_path_factory):
    """A task in the layout of RTE."""
    folder = tmp_path_factory.mktemp("entailment")
    lines = [f"{i}\tthe value {i}\tthe {'value' if i % 2 else 'name'}\t{'not_' * (i % 2)}entailment" for i in range(16)]
    for split in ("train", "dev"):
        (folder / f"{split}.tsv").write_text("index\tsentence1\tsentence2\tlabel\n" + "\n".join(lines) + "\n")
    return str(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory, teacher):  # noqa: F811
    """{task: the directory of a teacher with that task's head}, of which nothing but its logits matters."""
    place, found = tmp_path_factory.mktemp("taught"), {}
    for name in ("sst-2", "rte"):
        model = hub.read(teacher, head="sequence", labels=tasks.get(name).labels)
        found[name] = str(place / name)
        hub.write(model, found[name], tokenizers.load(teacher))
    return found


def glove(path, width, words=KNOWN):
    """A file of vectors, each of which is one number `width` times."""
    path.write_text("".join(f"{word} {' '.join([str(value)] * width)}\n" for word, value in words.items()))
    return path


def distil(output, taught, data, *more, task="sst-2", student="bilstm-1x8"):
    return ("distill", "--method", "tang", "--task", task, "--data", data, "--teacher", taught[task],
            "--student", student, "--output", output, "--max-steps", 4, *QUICK, *more)


def rows_of(tokenizer, table, words=KNOWN):
    return table[[tokenizer.token_to_id(word) for word in words]]


# ---------------------------------------------------------------- word vectors

@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_every_table_begins_with_the_vectors_of_known_words_and_draws_the_others(tmp_path, taught, embedding):
    tokenizer, config = tokenizers.load(taught["sst-2"]), BiLstmConfig(3, 4, embedding, word_width=5)
    config = config.but(vocabulary=tokenizer.get_vocab_size() + 1)
    path, head = glove(tmp_path / "glove.txt", 5, KNOWN | {"giraffe": 4.0, "[SEP]": 5.0}), ("sequence", ("no", "yes"))
    with_vectors, without = (begun(SimpleNamespace(seed=3, word_vectors=given, start_from=None), "random", config, head,
                                   tokenizer, [None]) for given in (path, None))
    known = np.zeros(config.vocabulary, bool)
    known[[tokenizer.token_to_id(word) for word in KNOWN]] = True
    for name, array in with_vectors.arrays().items():
        drawn = without.arrays()[name]
        if name.startswith("embeddings."):
            np.testing.assert_array_equal(rows_of(tokenizer, array), np.repeat([[1.0], [2], [3]], 5, axis=1))
            array, drawn = array[~known], drawn[~known]
        np.testing.assert_array_equal(array, drawn, err_msg=name)
    assert [name for name in with_vectors.arrays() if name.startswith("embeddings.")] == [
        f"embeddings.{table}.weight" for table in EMBEDDINGS[embedding]]


def test_vectors_reach_the_run_and_the_fixed_ones_stay(capsys, taught, reviews, tmp_path):  # noqa: F811
    vectors = glove(tmp_path / "glove.txt", 16)
    run_json(capsys, *distil(tmp_path / "run", taught, reviews, "--word-vectors", vectors))
    tokenizer, model = tokenizers.load(tmp_path / "run"), hub.read(tmp_path / "run")
    want = np.repeat([[1.0], [2], [3]], 16, axis=1)
    np.testing.assert_array_equal(rows_of(tokenizer, model.embeddings.fixed.weight.array), want)
    trained = rows_of(tokenizer, model.embeddings.trained.weight.array)
    assert 0 < np.abs(trained - want).max() < 0.5               # they have moved, but began there
    others = set(tokenizer.get_vocab().values()) - {tokenizer.token_to_id(word) for word in KNOWN}
    assert 0 < np.abs(model.embeddings.fixed.weight.array[sorted(others)]).max() <= 0.25


@pytest.mark.parametrize("width, more, said", [
    (7, (), "need word vectors of 16 numbers, as the student's words have; these have 7"),
    (16, ("--student", "1x16x2"), "--word-vectors are for students whose words begin with them, such as bilstm; "
                                  "got BERT 1x16")])
def test_vectors_that_do_not_fit_are_one_line(capsys, taught, reviews, tmp_path, width, more, said):  # noqa: F811
    vectors = glove(tmp_path / "glove.txt", width)
    code, out, error = run(capsys, *distil(tmp_path / "run", taught, reviews, "--word-vectors", vectors, *more))
    assert code == 2 and out == "" and said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_student_that_goes_on_learning_keeps_its_own_words(capsys, taught, reviews, tmp_path):  # noqa: F811
    run_json(capsys, *distil(tmp_path / "first", taught, reviews))
    vectors = glove(tmp_path / "glove.txt", 16)
    code, out, error = run(capsys, *distil(tmp_path / "second", taught, reviews, "--word-vectors", vectors,
                                           student=tmp_path / "first"))
    assert code == 2 and out == "" and error.count("\n") == 1 and not (tmp_path / "second").exists()
    assert f"--word-vectors are what a new student's words begin with: {tmp_path / 'first'} goes on" in error


# ---------------------------------------------------------------- sentences and pairs

@pytest.mark.parametrize("are_pairs", [False, True])
def test_rows_of_two_texts_are_for_a_student_of_pairs(taught, are_pairs):
    config = hub.read(taught["sst-2"]).config
    args = cli.parser().parse_args(list(map(str, distil("run", taught, "data"))))
    found, given = configured(args, methods.get("tang"), "bilstm-1x8", config, SimpleNamespace(are_pairs=are_pairs))
    assert (found.pair, found.vocabulary, found.word_width, found.pad_id, given) == (
        are_pairs, config.vocabulary, 16, config.pad_id, None)


def test_a_task_of_pairs_is_distilled_evaluated_and_asked(capsys, monkeypatch, taught, entailment, tmp_path):
    run_json(capsys, *distil(tmp_path / "run", taught, entailment, task="rte"))
    assert hub.read(tmp_path / "run").config.pair is True
    scores = run_json(capsys, "evaluate", "--task", "rte", "--model", tmp_path / "run", "--data", entailment)
    assert 0 <= scores["accuracy"] <= 1 and scores["examples"] == 16
    monkeypatch.setattr("sys.stdin", io.StringIO("the value\tthe name\nthe name\tthe value\n"))
    first, second = run_json(capsys, "predict", "--model", tmp_path / "run", "--quiet")
    assert first["probabilities"] != second["probabilities"]
    monkeypatch.setattr("sys.stdin", io.StringIO("the value\n"))
    code, out, error = run(capsys, "predict", "--model", tmp_path / "run", "--quiet")
    assert code == 2 and out == "" and error.count("\n") == 1 and "for pairs needs token types" in error


# ---------------------------------------------------------------- from a task to answers

def test_distill_evaluate_predict_and_no_export(capsys, monkeypatch, taught, reviews, tmp_path):  # noqa: F811
    output = tmp_path / "run"
    result = run_json(capsys, *distil(output, taught, reviews))
    assert {"soft_labels.logits_mse", "sha256", "dev"} <= result.keys()
    config = hub.read(output).config
    assert (config.model_type, config.hidden, config.pair, config.head) == ("bilstm", 8, False, "sequence")
    scores = run_json(capsys, "evaluate", "--task", "sst-2", "--model", output, "--data", reviews)
    assert {name: scores[name] for name in result["dev"]} == result["dev"]

    shutil.rmtree(output / "checkpoints")                       # what is asked is the model beside them
    monkeypatch.setattr("sys.stdin", io.StringIO("the value of the reader\nthe name\n"))
    answers = run_json(capsys, "predict", "--model", output, "--quiet")
    assert [set(answer["probabilities"]) for answer in answers] == [set(config.labels)] * 2
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in answers)

    code, out, error = run(capsys, "export", "--model", output, "--output", tmp_path / "exported")
    assert code == 2 and out == "" and error.count("\n") == 1 and not (tmp_path / "exported").exists()
    assert f"transformers cannot express BiLSTM 1x8: it has no BiLSTM; {output} is read by tinydistill alone" in error
