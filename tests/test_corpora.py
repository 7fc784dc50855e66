"""Corpora: the rows of a file, a folder, a data set; a split that follows what a text says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydistill.data import corpora, stdlib, stdlib_parts
from tinydistill.errors import Problem, WrongUsage
from tinydistill.tasks import stdlib_replaced


def test_stdlib_by_name():
    rows, parts = corpora.load("stdlib"), stdlib_replaced.split(stdlib.documents())
    assert rows == parts.pretraining and len(rows) > 10_000
    assert set(rows).isdisjoint(parts.train + parts.dev + parts.test)


def test_a_file_gives_its_lines(tmp_path):
    path = tmp_path / "text.txt"
    text = "\ufeff = Title = \r\n\r\n  Zwei Wörter \r\n\t\n no newline at the end, U+2028 \u2028 inside"
    path.write_bytes(text.encode())
    assert corpora.load(path) == ["= Title =", "Zwei Wörter", "no newline at the end, U+2028 \u2028 inside"]
    assert corpora.load(str(path)) == corpora.load(path)


def test_a_folder_gives_its_text_files_by_name(tmp_path):
    for name, text in [("b.txt", "third"), ("a/z.txt", "second"), ("a/b/c.txt", "first"), ("a/notes.md", "no text")]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.txt").mkdir()
    assert corpora.load(tmp_path) == ["first", "second", "third"]


def test_what_is_not_there(tmp_path):
    with pytest.raises(WrongUsage, match=r"need a corpus: stdlib, a text file, a folder of \*\.txt files or hf:NAME; "
                                         r"there is no stdlb$"):
        corpora.load("stdlb")
    (tmp_path / "a.md").write_text("text")
    with pytest.raises(WrongUsage, match=rf"need a folder with \*\.txt files in it; found none in {tmp_path}$"):
        corpora.load(tmp_path)


@pytest.mark.parametrize("content", ["", "\n \n\t\r\n", "\ufeff"])
def test_an_empty_corpus(tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(WrongUsage, match=f"need a corpus with text in it; {path} holds none$"):
        corpora.load(path)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xe9 au lait")
    with pytest.raises(WrongUsage, match=f"need text in UTF-8; {path} has the byte 0xe9 at offset 6: convert"):
        corpora.load(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))
    path = tmp_path / "secret.txt"
    path.write_text("text")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(WrongUsage, match=f"cannot read {path}: Permission denied$"):
        corpora.load(path)


# ---------------------------------------------------------------- data sets of the hub, here from local folders

@pytest.fixture
def folder(tmp_path, monkeypatch):
    import datasets
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    (tmp_path / "set").mkdir()
    yield tmp_path / "set"
    datasets.enable_progress_bars()


def test_a_data_set(folder):
    (folder / "train.jsonl").write_text('{"other": "x", "text": "one", "n": 1}\n{"other": "y", "text": " ", "n": 2}\n'
                                        '{"other": "z", "text": null, "n": 3}\n')
    (folder / "test.jsonl").write_text('{"other": "x", "text": "two", "n": 1}\n')
    assert corpora.load(f"hf:{folder}") == ["one"]
    assert corpora.load(f"hf:{folder}:default@test") == corpora.load(f"hf:{folder}@test") == ["two"]


def test_the_only_column_of_strings_is_the_text(folder):
    (folder / "train.csv").write_text("sentence,label\nit was good,1\n")
    assert corpora.load(f"hf:{folder}") == ["it was good"]


def test_a_data_set_without_one_text(folder):
    (folder / "train.csv").write_text("question,answer\nwhy,so\n")
    with pytest.raises(WrongUsage, match="need a data set with a column text, or with one column of strings; "
                                         "hf:.*/set has question, answer$"):
        corpora.load(f"hf:{folder}")


def test_a_data_set_that_is_not_there(folder):
    for name in (f"hf:{folder}/nothing", f"hf:{folder}@nothing"):
        with pytest.raises(Problem, match=rf"^cannot load {name} \(hf:NAME\[:CONFIG\]\[@SPLIT\]; this needs "
                                          r"the network or an earlier download\): [^\n]+$") as caught:
            corpora.load(name)
        assert caught.value.exit_code == 1
    with pytest.raises(WrongUsage, match=r"need the name of a data set: hf:NAME\[:CONFIG\]\[@SPLIT\]; got hf:$"):
        corpora.load("hf:")


def test_a_data_set_without_network():
    script = """if True:
        from tinydistill.data import corpora
        from tinydistill.errors import Problem
        try:
            corpora.load("hf:nobody/nothing")
        except Problem as problem:
            print(problem)
    """
    ran = subprocess.run([sys.executable, "-c", script], env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=True,
                         capture_output=True, text=True)
    assert ran.stdout.startswith("cannot load hf:nobody/nothing (hf:NAME[:CONFIG][@SPLIT]; this needs the network")
    assert ran.stdout.count("\n") == 1


# ---------------------------------------------------------------- documents

def test_a_blank_line_parts_the_documents_of_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf\n one \r\n two\n\n \t\r\n\nthree\n\n")
    assert corpora.documents(path) == corpora.documents(str(path)) == [["one", "two"], ["three"]]


def test_a_document_of_a_folder_ends_with_its_file(tmp_path):
    for name, text in {"b.txt": "four\n\nfive", "a/z.txt": "three", "a/b/c.txt": "one\ntwo\n", "a/no.md": "no"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.txt").mkdir()
    assert corpora.documents(tmp_path) == [["one", "two"], ["three"], ["four"], ["five"]]
    assert [row for document in corpora.documents(tmp_path) for row in document] == corpora.load(tmp_path)


def test_of_stdlib_a_document_is_a_module_without_what_tasks_test_on():
    found, rows = corpora.documents("stdlib"), corpora.load("stdlib")
    whole, module = stdlib.documents(), {row.text: row.module for row in stdlib.documents()}
    assert sorted(text for document in found for text in document) == sorted(rows)
    modules = [{module[text] for text in document} for document in found]
    assert all(len(of) == 1 for of in modules) and len(set().union(*modules)) == len(found) > 300
    place = {row.text: i for i, row in enumerate(whole)}
    for document in found:                          # its rows follow each other as they do there
        assert [place[text] for text in document] == sorted(place[text] for text in document)
    parts = stdlib_replaced.split(whole)
    kept_out = set(parts.train + parts.dev + parts.test)
    kept_out |= {row.text for split in ("dev", "test") for row in rows_of_modules(split)}
    assert len(kept_out) > 3000 and kept_out.isdisjoint(text for document in found for text in document)


def rows_of_modules(split):
    """The documents of a part of stdlib-modules."""
    places = stdlib_parts.document_places(stdlib.documents())
    low, high = stdlib_parts.MODULES[split]
    return [row for row, place in zip(stdlib.documents(), places)
            if low <= place < high and stdlib_parts.package(row) is not None]


@pytest.mark.parametrize("name, text", [
    ("hf:set", "need a corpus of documents for sentence pairs: stdlib, or text files with blank lines between "
               "documents; rows of a data set have no order that is known$"),
    ("nowhere.txt", "need a corpus: stdlib, .*; there is no nowhere.txt$"),
    ("FOLDER", r"need a folder with \*.txt files in it; found none in FOLDER$"),
    ("FOLDER/lines", "need at least two documents, with a blank line between them; FOLDER/lines has 1$"),
    ("FOLDER/empty", "need at least two documents, with a blank line between them; FOLDER/empty has 0$"),
    ("FOLDER/latin", "need text in UTF-8; FOLDER/latin has the byte 0xe9 at offset 3: convert the file$")])
def test_what_has_no_documents_is_one_line(tmp_path, name, text):
    for file, content in (("lines", b"one\ntwo\nthree"), ("empty", b"\n\n"), ("latin", b"caf\xe9")):
        (tmp_path / file).write_bytes(content)
    with pytest.raises(WrongUsage, match=f"^{text.replace('FOLDER', str(tmp_path))}") as caught:
        corpora.documents(name.replace("FOLDER", str(tmp_path)))
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


# ---------------------------------------------------------------- splits

def test_a_split_holds_the_share_asked_for():
    texts = [f"row {'x' * (i % 97)} {'y' * (i // 97)}" for i in range(9700)]
    train, held_out = corpora.split(texts, 0.05)
    assert sorted(train + held_out) == sorted(texts)
    assert abs(len(held_out) - 485) < 5 * (9700 * 0.05 * 0.95) ** 0.5                           # five sigma
    assert set(held_out) < set(corpora.split(texts, 0.1)[1])    # a larger share holds the smaller one


def test_the_split_is_the_same_on_every_machine():
    assert corpora.fraction("Return the sum.") == pytest.approx(0.434804175287109, abs=1e-12)


@given(st.lists(st.text()), st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_split_looks_at_nothing_but_the_text_and_leaves_no_side_empty(texts, held_out):
    if len({corpora.fraction(text) for text in texts}) < 2:
        with pytest.raises(WrongUsage, match="need at least 2 texts that differ in their words, 1 of them to hold out; "
                                             f"got {len(set(map(corpora.fraction, texts)))} among {len(texts)}$"):
            corpora.split(texts, held_out)
        return
    train, held = corpora.split(texts, held_out)
    assert train and held and len(train) + len(held) == len(texts) and not set(train) & set(held)
    assert max(map(corpora.fraction, held)) < min(map(corpora.fraction, train))
    assert corpora.split(texts[::-1], held_out) == (train[::-1], held[::-1])


documents = st.lists(st.lists(st.text("ab c", min_size=1), min_size=1, max_size=3), max_size=12)


@given(documents, st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_document_is_on_one_side_whole_and_either_side_has_two_that_differ(documents, held_out):
    fractions = [corpora.fraction("\n".join(document)) for document in documents]
    if len(set(fractions)) < 4:
        with pytest.raises(WrongUsage, match="need at least 4 documents that differ in their words, 2 of them to hold "
                                             f"out; got {len(set(fractions))} among {len(documents)}$"):
            corpora.split_documents(documents, held_out)
        return
    train, held = corpora.split_documents(documents, held_out)
    assert sorted(train + held) == sorted(documents)
    for one, other in ((train, held), (held, train)):
        assert len({corpora.fraction("\n".join(document)) for document in one}) >= 2
        assert not any(document in other for document in one)
    border = min(corpora.fraction("\n".join(document)) for document in train)
    assert all(corpora.fraction("\n".join(document)) < border for document in held)
    share = sum(f < held_out for f in fractions)
    if len({f for f in fractions if f < held_out}) >= 2 <= len({f for f in fractions if f >= held_out}):
        assert len(held) == share                   # chance alone, where it leaves two on either side


def test_the_parts_of_a_corpus_are_rows_or_documents(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"the first {word}\nthe second {word}" for word in ("a", "b", "c", "d", "e", "f")))
    rows, whole = corpora.parts(path), corpora.parts(path, of_documents=True)
    assert rows == corpora.split(corpora.load(path)) and whole == corpora.split_documents(corpora.documents(path))
    assert sorted(rows[0] + rows[1]) == sorted(row for part in whole for document in part for row in document)


@given(st.text(), st.sampled_from([" ", "  \n", " 12 ", " - ", "!", "_"]))
def test_near_duplicates_fall_on_one_side(text, noise):
    assert corpora.fraction(text) == corpora.fraction(text + noise)
    assert corpora.fraction("Return x1 if it is_here.") == corpora.fraction("return X2, if it is here")
    assert corpora.fraction("Return x") != corpora.fraction("Return y")
    assert 0 <= corpora.fraction(text) < 1


@pytest.mark.parametrize("share", (0, 1, 5, -0.1))
def test_a_share_that_is_none(share):
    with pytest.raises(WrongUsage, match=f"need a held-out share between 0 and 1; got {share}$"):
        corpora.split(["one text", "another text"], held_out=share)


def test_corpora_are_described():
    assert [corpus["name"].split(":")[0] for corpus in corpora.CORPORA] == ["stdlib", "FILE", "FOLDER", "hf"]
    for corpus in corpora.CORPORA:
        assert set(corpus) == {"name", "what", "source"} and all(corpus.values())


def test_wikitext():
    data = os.environ.get("TINYDISTILL_DATA")
    if not data:
        pytest.skip("TINYDISTILL_DATA names no folder with test data (wikitext-2/valid.txt is read from it)")
    rows = corpora.load(Path(data) / "wikitext-2" / "valid.txt")
    assert rows[0] == "= Homarus gammarus =" and sum(len(row.split()) for row in rows) == 213_886
