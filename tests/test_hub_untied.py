"""Decoders that are not the word embeddings: read, written, trained and counted as transformers has them."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gradcheck import assert_close64, assert_within
from oracle import families as oracle
from small_bert import dense, everything
from test_hub_families import SMALL, batch_of, build, same_bits
from tinydistill import architectures, hub
from tinydistill.errors import Problem, WrongUsage
from tinydistill.features import Needs, Pass
from tinydistill.hub_names import FORMS
from tinydistill.students.heads import with_head
from tinydistill.students.mixed_vocabulary import folded, widened

UNTIED = [(family, "masked-lm") for family in SMALL if family != "mobilebert"] + [("bert", "pretraining")]
LOGITS = Pass(needs=Needs.of(logits=True))


def untied(family, head="masked-lm"):
    return build(SMALL[family], head, tied=False)


@pytest.fixture(params=UNTIED, ids="-".join)
def theirs(request, tmp_path):
    """(directory that transformers wrote, our configuration of it): two biases in it that differ."""
    family, head = request.param
    form, config = FORMS[family], untied(family, head).config
    settings = {name: x for name, x in form.settings(config).items() if name not in ("architectures", "model_type")}
    oracle.save_new(form.table.ARCHITECTURES[head], tmp_path / "theirs", **settings)
    assert json.loads((tmp_path / "theirs/config.json").read_text())["tie_word_embeddings"] is False
    return tmp_path / "theirs", config


def test_theirs_is_ours_and_theirs_again(theirs, tmp_path):
    """Equal logits and gradients; what is written has every tensor that they write, and equal bits."""
    directory, config = theirs
    model = hub.read(directory, head=config.head)
    assert model.config.but(pooler=config.pooler) == config
    first, batch = oracle.opened(directory)[0], batch_of(model)
    logits = model(batch, LOGITS).logits
    _, wanted = oracle.outputs(first, batch)
    assert_close64(logits.array, wanted.reshape(logits.shape), "logits")

    hub.write(model, tmp_path / "ours")
    files = [load_file(path / "model.safetensors") for path in (directory, tmp_path / "ours")]
    assert files[0].keys() == files[1].keys()
    again = oracle.opened(tmp_path / "ours")[0]                         # nothing missing, nothing unexpected
    assert oracle.outputs(again, batch)[1].tobytes() == wanted.tobytes()
    again.save_pretrained(tmp_path / "again")
    same_bits(hub.read(tmp_path / "again", head=config.head), model)

    upstream = np.random.default_rng(0).standard_normal(wanted.shape)
    (logits * upstream.reshape(logits.shape)).sum().backward()
    arrived = oracle.logits_gradients(again, batch, upstream)
    form = FORMS[config.model_type]
    read = {source: twin for twin, source in form.twins(config).items()}               # of two biases
    for name, parameter in model.named_parameters().items():
        written = form.written(config, name)
        g = arrived[read.get(written, written)]
        if parameter.grad is None:
            assert g is None, name
        else:
            allowed = 1e-10 * np.abs(g).max() + 1e-14 * name.endswith("key.bias")       # whose derivative is 0
            assert_within(dense(parameter.grad), g.reshape(parameter.shape), allowed, name)


@pytest.mark.parametrize("family, head", UNTIED)
def test_the_decoder_alone_learns_what_is_predicted(family, head):
    """The word embeddings get the gradient of the ids that were read: other rows none."""
    model = untied(family, head)
    batch = batch_of(model)
    logits = model(batch, LOGITS).logits
    (logits * logits).sum().backward()
    words = np.abs(dense(model.embeddings.word.weight.grad)).sum(axis=1)
    assert set(np.flatnonzero(words)) <= set(batch.ids.ravel())
    assert (np.abs(model.head.decoder.weight.grad).sum(axis=1) > 0).all()


@pytest.mark.parametrize("family, head", UNTIED)
def test_a_decoder_of_its_own_is_counted(family, head):
    model = untied(family, head)
    tied = architectures.parameter_count(model.config.but(tied=True))
    counts = architectures.parameter_count(model.config)
    assert counts["total"] == sum(p.array.size for p in model.parameters()) == tied["total"] + 37 * 24
    assert counts["head"] == tied["head"] + 37 * 24
    bare = model.config.but(head="none")
    assert architectures.parameter_count(bare) == architectures.parameter_count(bare.but(tied=True))


def change(directory, tied=None, drop=()):
    settings = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": tied}))
    tensors = {name: x for name, x in load_file(directory / "model.safetensors").items() if name not in drop}
    save_file(tensors, directory / "model.safetensors")


def test_what_the_flag_says_and_what_the_file_holds(tmp_path):
    """Untied if either has it so; a decoder that the flag promises and the file has not is missing."""
    model = untied("bert")
    for flag in (True, None):
        hub.write(model, tmp_path)
        change(tmp_path, flag)
        same_bits(hub.read(tmp_path), model)
    model.head.decoder.weight.array = model.embeddings.word.weight.array.copy()
    hub.write(model, tmp_path)
    same_bits(hub.read(tmp_path), model)            # equal, and each with a future of its own
    change(tmp_path, False, ["cls.predictions.decoder.bias"])
    same_bits(hub.read(tmp_path), model)            # the one bias that there is
    change(tmp_path, False, ["cls.predictions.decoder.weight"])
    with pytest.raises(Problem, match="cls.predictions.decoder.weight is missing$"):
        hub.read(tmp_path)
    change(tmp_path, True)
    assert hub.read(tmp_path).config.tied
    change(tmp_path, "no")
    with pytest.raises(Problem, match="need tie_word_embeddings to be true or false, got 'no'"):
        hub.read(tmp_path)


def test_other_heads_keep_the_flag_and_draw_a_decoder(tmp_path):
    model = untied("bert")
    hub.write(model, tmp_path)
    span = hub.read(tmp_path, head="span")
    assert not span.config.tied and "head.decoder.weight" not in span.arrays()
    drawn = with_head(span, "masked-lm", seed=3)
    assert not np.array_equal(drawn.head.decoder.weight.array, drawn.embeddings.word.weight.array)
    assert 0.01 < drawn.head.decoder.weight.array.std() < 0.03
    hub.write(span, tmp_path)
    same_bits(hub.read(tmp_path), span)
    assert not hub.read(tmp_path, head="masked-lm", seed=3).config.tied


def test_a_mobilebert_has_no_decoder_of_its_own(tmp_path):
    reason = "need a decoder tied to the word embeddings, as every MobileBERT has it, for a masked-lm head$"
    with pytest.raises(WrongUsage, match=reason):
        untied("mobilebert")
    hub.write(build(SMALL["mobilebert"], "masked-lm"), tmp_path)
    change(tmp_path, False)
    with pytest.raises(WrongUsage, match=reason):
        hub.read(tmp_path)
    assert hub.read(tmp_path, head="span").config.head == "span"
    change(tmp_path, True)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | {"cls.predictions.decoder.weight": tensors["mobilebert.embeddings.word_embeddings.weight"] + 1},
              tmp_path / "model.safetensors")
    with pytest.raises(WrongUsage, match=reason):
        hub.read(tmp_path)


def test_a_second_vocabulary_has_rows_in_the_decoder_too():
    model = untied("bert")
    wide = widened(model, 9, ((0, 0),))
    assert wide.head.decoder.weight.shape == (45, 24) and wide.head.decoder.weight.array[37:].std() > 0
    same_bits(folded(wide), model)
    np.testing.assert_array_equal(folded(wide, second=True).head.decoder.weight.array[1:],
                                  wide.head.decoder.weight.array[37:])


def test_features_but_the_logits_do_not_know_of_it():
    model = untied("bert")
    tied = architectures.build(model.config.but(tied=True), None).to(np, np.float64)
    tied.load({name: x for name, x in model.arrays().items() if name != "head.decoder.weight"})
    batch = batch_of(model)
    ours, theirs = (one(batch, Pass(everything(one.config))) for one in (model, tied))
    np.testing.assert_array_equal(ours.hidden[1].array, theirs.hidden[1].array)
    assert not np.allclose(ours.logits.array, theirs.logits.array)
