"""tinydistill's own models and its own training step, beside stored vectors of whole models and of ten steps.

CHECKS: {"equation case": function that raises AssertionError where they differ}.
"""

import functools
from dataclasses import replace

import numpy as np

from gradcheck import assert_within
from small_bert import dense, flat
from tinydistill import ops
from tinydistill.architectures import build
from tinydistill.features import IGNORED, Batch, Features, Needs, Pass
from tinydistill.hub_names import FORMS
from tinydistill.methods import METHODS
from tinydistill.methods.projections import Projections
from tinydistill.students.bilstm import BiLstmConfig
from tinydistill.students.configs import BertConfig
from tinydistill.students.mobilebert import MobileBertConfig
from tinydistill.tensor import Tensor, gradients
from tinydistill.training.loop import Phase, train_phases
from tinydistill_reference import store
from tinydistill_reference.equation import equations
from toys import Memory

STEPS, CLASSES = 10, ("a", "b", "c")
DROPLESS = {"dropout": 0.0, "attention_dropout": 0.0}
BERT = BertConfig(2, 8, 2, 11, vocabulary=13, positions=7, pooler=False, **DROPLESS)
MOBILEBERT = MobileBertConfig(2, 9, 2, 11, vocabulary=13, positions=7, embedding=5, bottleneck=6, feed_forwards=2,
                              head="masked-lm", **DROPLESS)
BILSTM = BiLstmConfig(3, 7, "rand", word_width=4, vocabulary=13, dropout=0.0, head="sequence", labels=tuple("abcde"))


def cases(equation):
    """Its cases that are to be computed."""
    return [s for s in store.load(equation) if s.case.result == "valid"]


# ---------------------------------------------------------------- models of stored weights

def name_of(config, ours):
    """What the vectors call a parameter of ours."""
    if config.model_type == "bilstm":
        return ours
    theirs = FORMS[config.model_type].name(ours)
    return theirs if theirs.startswith(("cls.", "classifier.")) else f"{config.model_type}.{theirs}"


def as_stored(config, ours, x):
    """A parameter of ours as the vectors have it; and back."""
    return x if config.model_type == "bilstm" else FORMS[config.model_type].theirs(ours, x)


def model_of(config, weights):
    """A model in float64 with the weights of a vector, every one of which it has to have."""
    model = build(config, None).to(np, np.float64)
    arrays = {ours: as_stored(config, ours, weights[name_of(config, ours)]) for ours in model.arrays()}
    given = {name for name in weights if "." in name and not name.startswith("tinybert.")}
    assert {name_of(config, ours) for ours in arrays} == given
    return model.load(arrays)


def batch_of(inputs, step=None):
    """The batch of a case, or that of one step."""
    found = {name: inputs[name] if step is None else inputs[name][step]
             for name in ("ids", "mask", "token_types", "labels") if name in inputs}
    B = len(found["ids"])
    return Batch(**found, rows=np.arange(B), indices=np.full(B, 0 if step is None else step))


def with_everything(config):
    """A pass that computes every feature."""
    per_layer = dict.fromkeys(("hidden", "scores", "queries", "keys", "values"), range(config.layers))
    return Pass(Needs.of(**per_layer, embeddings=True, logits=True))


def loss_of(model, batch):
    """The mean cross-entropy of all rows with a label."""
    logits = model(batch, Pass(Needs.of(logits=True))).logits
    labels = batch.labels.reshape(-1)
    return ops.cross_entropy(logits, labels) * (1.0 / (labels != IGNORED).sum())


def assert_gradients(config, found, truth):
    """{our name: gradient} is that of the vector.

    A key bias does not change a softmax: its derivative is 0 and rounding, which the largest of all gradients measures.
    """
    want = {n.removeprefix("d"): x for n, x in truth.expect.items() if n.startswith("d")}
    largest = max(np.abs(x).max() for x in want.values())
    assert {name_of(config, ours) for ours in found} == want.keys()
    for ours, g in found.items():
        name = name_of(config, ours)
        scale = largest if name.endswith("key.bias") else np.abs(want[name]).max()
        got = np.zeros_like(want[name]) if g is None else as_stored(config, ours, dense(g))
        assert_within(got, want[name], 1e-10 * scale, name)


LANGUAGE_MODELS = [(equation, config, s) for equation, config in (("model.bert", BERT.but(head="masked-lm")),
                                                                  ("model.mobilebert", MOBILEBERT))
                   for s in cases(equation)]


def check_language_model(equation, config, stored):
    model, truth = model_of(config, stored.case.inputs), stored.truths["paper"]
    loss = loss_of(model, batch_of(stored.case.inputs)) * stored.case.upstream
    assert_within(loss.array, truth.expect["value"] * stored.case.upstream, 1e-10 * abs(float(loss.array)))
    found = gradients(loss, model.parameters())
    assert_gradients(config, dict(zip(model.named_parameters(), found, strict=True)), truth)


def check_features(stored):
    config = BERT.but(head="masked-lm")
    model, case, truth = model_of(config, stored.case.inputs), stored.case, stored.truths["paper"]
    found = flat(model(batch_of(case.inputs), with_everything(config)))
    found = {place[0] if place[1] is None else ".".join(map(str, place)): x for place, x in found.items()}
    assert found.keys() == set(equations()["model.bert_features"].outputs)
    total = 0.0
    for name, x in found.items():
        want = truth.expect[name]
        got = x.array.reshape(want.shape)                               # logits come as (B*T, V)
        assert_within(got, want, 1e-10 * np.abs(want).max(), name)
        total = total + (x * case.upstream[name].reshape(x.shape)).sum()
    derived = gradients(total, model.parameters())
    assert_gradients(config, dict(zip(model.named_parameters(), derived, strict=True)), truth)


def check_bilstm(stored):
    model, case, truth = model_of(BILSTM, stored.case.inputs), stored.case, stored.truths["paper"]
    loss = loss_of(model, batch_of(case.inputs)) * case.upstream
    assert_within(loss.array, truth.expect["value"] * case.upstream, 1e-10 * abs(float(loss.array)))
    assert_gradients(BILSTM, dict(zip(model.named_parameters(), gradients(loss, model.parameters()))), truth)


# ---------------------------------------------------------------- ten steps

class Recorded:
    """A teacher that is nothing but its features: those of the step that the batch's indices name."""

    def __init__(self, config, features_at):
        self.config, self.features_at = config, features_at

    def __call__(self, batch, run):
        found, features = Features("the vector's teacher", self.config.layers, batch.mask), {}
        for (name, layer), x in self.features_at(int(batch.indices[0])).items():
            if layer is None:
                features[name] = Tensor(x)
            else:
                getattr(found, name)[layer] = Tensor(x)
        return found.has(**features)


TEACHER = BertConfig(4, 12, 2, 24, vocabulary=13, positions=7, **DROPLESS)


def minilm_teacher(i, step):
    return {(name, 3): i[f"teacher_{name}"][step] for name in ("queries", "keys", "values")}


def tinybert_teacher(i, step):
    layers = {(name, t): i[f"teacher_{name}"][step, s] for name in ("hidden", "scores") for s, t in enumerate((1, 3))}
    return layers | {("embeddings", None): i["teacher_embeddings"][step]}


def distilbert_teacher(i, step):
    return {("logits", None): i["teacher_logits"][step][i["mask"][step]], ("hidden", 3): i["teacher_hidden"][step]}


def pkd_teacher(i, step):
    return {("logits", None): i["teacher_logits"][step], ("hidden", 1): i["teacher_hidden"][step, 0]}


def tang_teacher(i, step):
    return {("logits", None): i["teacher_logits"][step]}


WORDS, SENTENCES = {"head": "masked-lm"}, {"head": "sequence", "labels": CLASSES, "pooler": True}
METHODS_OF = {                                      # name: (ours, student, teacher, its features, settings)
    "minilm": ("minilm", BERT, TEACHER, minilm_teacher, {}),
    "tinybert": ("tinybert", BERT, TEACHER, tinybert_teacher, {}),
    "distilbert": ("distilbert", BERT.but(**WORDS), TEACHER.but(hidden=8, **WORDS), distilbert_teacher, {}),
    "pkd": ("pkd-skip", BERT.but(**SENTENCES), TEACHER.but(hidden=8, **SENTENCES), pkd_teacher,
            {"task": True, "alpha": 0.75, "temperature": 8.0, "beta": 0.5}),
    "tang": ("tang", BILSTM, TEACHER.but(head="sequence", labels=BILSTM.labels, pooler=True), tang_teacher,
             {"task": True, "alpha": 0.25}),
}
def check_ten_steps(name, stored):
    ours, config, teacher_config, features_at, settings = METHODS_OF[name]
    inputs, truth = stored.case.inputs, stored.truths["paper"]
    attrs = equations()[f"trajectory.{name}"].attrs | stored.case.attrs
    student = model_of(config, inputs)
    teacher = Recorded(teacher_config, lambda step: features_at(inputs, step))
    stage, = METHODS[ours].plan(config, teacher_config, **settings)
    optimiser = {key: attrs[key] for key in ("learning_rate", "warmup", "clip", "decay", "eps", "beta1", "beta2")}
    recipe = stage.recipes["paper"].but(steps=STEPS, optimizer="adamw", schedule="linear", **optimiser)
    maps = Projections((stage,), config, teacher_config).to(np, np.float64)
    maps.load({label: inputs[label] for label in maps.arrays()})

    def batch_at(step):
        batch = batch_of(inputs, step)
        return replace(batch, positions=np.flatnonzero(batch.mask)) if name == "distilbert" else batch

    memory = Memory()
    trained, _ = train_phases(student, [Phase(stage, recipe, batch_at, teacher)], projections=maps, directory=memory,
                              log_every=1, quiet=True)
    losses = np.array([line["loss"] for line in memory.lines])
    assert_within(losses / truth.expect["losses"], np.ones(STEPS), 1e-9, "losses")
    after = {name_of(config, label): x for label, x in trained.arrays().items()} | maps.arrays()
    assert {f"final.{label}" for label in after} | {"losses"} == truth.expect.keys()
    for label, x in after.items():
        want = truth.expect[f"final.{label}"]
        assert_within(x, want, 1e-9 * np.abs(want).max(), label)


CHECKS = {f"{equation} {s.case.id}": functools.partial(check_language_model, equation, config, s)
          for equation, config, s in LANGUAGE_MODELS}
CHECKS |= {f"model.bert_features {s.case.id}": functools.partial(check_features, s)
           for s in cases("model.bert_features")}
CHECKS |= {f"model.bilstm {s.case.id}": functools.partial(check_bilstm, s) for s in cases("model.bilstm")}
CHECKS |= {f"trajectory.{name} {s.case.id}": functools.partial(check_ten_steps, name, s)
           for name in METHODS_OF for s in cases(f"trajectory.{name}")}
