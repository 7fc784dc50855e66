"""Saved tensors: read from files that may come from anybody, and understood by their names."""

import numpy as np
import pytest

from tinydistill_reference.equation import equations
from tinydistill_reference.saved import Unusable, read, understood


@pytest.mark.parametrize("name, meaning", [
    ("q_student", "student_queries"), ("s_key", "student_keys"), ("teacher.v", "teacher_values"),
    ("studentQ", "student_queries"), ("stu_emb", "student_embeddings"),
    ("teacher/hidden_states", "teacher_hidden"), ("t_attention_scores", "teacher_scores"), ("attention_mask", "mask"),
    ("targets", "labels"), ("logits", "student_logits"), ("teacher", "teacher_logits")])
def test_names(name, meaning):
    inputs = dict.fromkeys(name for e in equations().values() if e.outputs == ("value",) for name in e.shapes)
    assert understood({name: np.zeros((2, 3))}, inputs).names == {meaning: name}


@pytest.mark.parametrize("mask, real", [
    ([[1, 1, 0]], [[True, True, False]]), ([[[[0.0, 0.0, -1e4]]]], [[True, True, False]]),
    ([[True, False]], [[True, False]])])
def test_masks(mask, real):
    assert understood({"mask": np.array(mask)}, ["mask"]).inputs["mask"].tolist() == real


def test_files_that_cannot_be_read(tmp_path):
    for name, content in (("a.npz", b"no zip"), ("a.safetensors", b"\x00" * 20), ("a.pt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Unusable, match="cannot read|need a .npz"):
            read(tmp_path / name)
    with pytest.raises(Unusable, match="there is no file"):
        read(tmp_path / "b.npz")


def test_bfloat16_is_refused_in_words(tmp_path):
    header = b'{"loss":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(Unusable, match="save it as float32"):
        read(tmp_path / "a.safetensors")
