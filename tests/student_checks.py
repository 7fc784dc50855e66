"""What architectures must pass: as transformers computes it, no further than asked, deaf to padding, on any device."""

from collections import Counter
from dataclasses import replace

import numpy as np

import strict_device
from gradcheck import assert_close32, assert_close64, assert_within
from oracle import students as oracle
from small_bert import LABELS, at_real_tokens, dense, draw_batch, everything, flat, inner
from tinydistill import kernels, no_grad, ops
from tinydistill.backend import to_host
from tinydistill.features import IGNORED, Needs, Pass
from tinydistill.nn.layers import Dropout
from tinydistill.tensor import gradients


def build(model, config, head="none", seed=0, dtype=np.float64, **changes):
    """A model whose every parameter is some random number: biases and norms, too."""
    labels = LABELS if head in ("sequence", "token") else ()
    built = model(config.but(head=head, labels=labels, **changes), seed).to(np, dtype)
    rng = np.random.default_rng(seed)
    for parameter in built.parameters():
        parameter.array = parameter.array + (0.3 * rng.standard_normal(parameter.shape)).astype(dtype)
    return built


def labels_of_logits(batch):
    """The labels of the rows of the logits, or None where the batch has no labels."""
    if batch.labels is None or batch.labels.ndim == 1 or batch.positions is None:
        return None if batch.labels is None else batch.labels.ravel()
    return batch.labels.ravel()[batch.positions]


def random_upstream(features, seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {place: rng.standard_normal(x.shape).astype(dtype) for place, x in flat(features).items()}


# ---------------------------------------------------------------- transformers

def check_against_transformers(model, names, batch):
    """Every feature and every parameter's gradient, for the head's loss and a random upstream of every feature, padded
    positions included. Returns what transformers calls its attentions, by layer."""
    ours = model(batch, Pass(needs=everything(model.config)))
    twin = oracle.twin(model, names)
    found, theirs = flat(ours), oracle.features(twin, model, names, batch)
    attentions = {l: theirs.pop((name, l)) for name, l in list(theirs) if name == "attentions"}
    assert found.keys() == theirs.keys()
    for place, x in found.items():
        assert_close64(x.array, theirs[place], str(place))

    upstream, labels = random_upstream(ours, 2), labels_of_logits(batch)
    loss = inner(ours, upstream)
    if labels is not None:
        loss = loss + ops.cross_entropy(ours.logits, labels) * (1 / (labels != IGNORED).sum())
    truth = oracle.gradients(twin, model, names, batch, upstream, labels)
    for name, gradient in zip(truth, gradients(loss, model.parameters()), strict=True):
        assert np.abs(truth[name]).max() > 1e-5, f"{name}: nothing is compared"
        assert_close64(dense(gradient), truth[name], name)
    return ours, attentions


def check_any_shape(model, names, batch, count):
    """Of any configuration: counts, features and gradients, these by the largest entry of all, for many may be 0."""
    check_counts(model, count)
    features, twin = model(batch, Pass(needs=everything(model.config))), oracle.twin(model, names)
    truth = oracle.features(twin, model, names, batch)
    for place, x in flat(features).items():
        assert_close64(x.array, truth[place], str(place))
    upstream = random_upstream(features, 5)
    found = gradients(inner(features, upstream), model.parameters())
    truth = oracle.gradients(twin, model, names, batch, upstream)
    largest = max(np.abs(g).max() for g in truth.values())
    for name, gradient in zip(truth, found, strict=True):
        assert_within(dense(gradient), truth[name], 1e-10 * largest, name)


def check_own_loss(model, names, batch):
    """transformers' `labels=` and ours: the mean over the rows that have a label."""
    labels = labels_of_logits(batch)
    loss = ops.cross_entropy(model(batch, Pass(needs=Needs.of(logits=True))).logits, labels) * (1 / len(labels))
    assert_close64(loss.array, oracle.own_loss(oracle.twin(model, names), names, batch))


def check_float32(model, names, batch):
    """Features and gradients, by the tolerance rule; kappa from transformers' own float32."""
    features = model(batch, Pass(needs=everything(model.config)))
    upstream = random_upstream(features, 8, np.float32)
    found = dict(zip(model.named_parameters(), gradients(inner(features, upstream), model.parameters())))
    twins = [oracle.twin(model, names, dtype) for dtype in ("float64", "float32")]
    for got, (truth, witness) in (
            ({place: x.array for place, x in flat(features).items()},
             [oracle.features(twin, model, names, batch) for twin in twins]),
            ({name: dense(g) for name, g in found.items()},
             [oracle.gradients(twin, model, names, batch, upstream) for twin in twins])):
        for place, x in got.items():
            reference = truth[place]
            kappa = max(4 * np.abs(reference).max(), np.abs(witness[place] - reference).max() / 2.0 ** -24)
            assert_close32(x, reference, kappa, str(place))


# ---------------------------------------------------------------- counts

def check_counts(model, count):
    """parameter_count of the configuration is what was built, part by part."""
    built = {name: p.array.size for name, p in model.named_parameters().items()}

    def total(*prefixes):
        return sum(size for name, size in built.items() if name.startswith(prefixes))

    words = total("embeddings.word")
    assert count(model.config) == {
        "word embeddings": words, "other embeddings": total("embeddings.") - words, "transformer": total("layers."),
        "pooler": total("pooler."), "head": total("head."), "total": sum(built.values())}


def check_flops(monkeypatch, model, flops, length):
    """forward_flops is what the matrix products of one forward cost, each counted where it is made."""
    counted = []

    def watch(name, cost):
        original = getattr(ops, name)

        def counting(*arguments, **settings):
            counted.append(cost(*arguments))
            return original(*arguments, **settings)
        monkeypatch.setattr(ops, name, counting)

    def rows(x):
        return int(np.prod(x.shape[:-1]))
    watch("linear", lambda x, w, b: 2 * rows(x) * w.shape[0] * w.shape[1])
    watch("grouped_linear", lambda x, w, b: 2 * rows(x) * w.shape[0] * w.shape[1])
    watch("project_heads", lambda x, *w: sum(2 * rows(x) * a.shape[0] * a.shape[1] for a in w[::2]))
    watch("attention", lambda q, k, v: 4 * rows(q) * k.shape[2] * q.shape[-1])
    batch = replace(draw_batch(length=length, lengths=[length]), positions=np.array([0, 3, 4]))
    model(batch, Pass(needs=Needs.of(logits=True)))
    assert sum(counted) == round(flops(model.config, length, 3 / length))


def check_initialisation(model, config):
    """Matrices are drawn by name from N(0, initial_std^2), vectors stay; None draws nothing."""
    small, again, other = model(config, 3), model(config.but(layers=config.layers + 1), 3), model(config, 4)
    for name, weight in small.arrays().items():
        np.testing.assert_array_equal(weight, again.arrays()[name], err_msg=name)
        assert (weight.ndim >= 2) != np.array_equal(weight, other.arrays()[name]), name
    drawn = np.concatenate([w.ravel() for w in small.arrays().values() if w.ndim >= 2])
    assert abs(drawn.std() / config.initial_std - 1) < 0.1
    for name, weight in model(config).arrays().items():
        np.testing.assert_array_equal(weight, model(config, 0).arrays()[name], err_msg=name)
    assert not any(w.any() for w in model(config, None).arrays().values() if w.ndim >= 2)


# ---------------------------------------------------------------- one pass

OPS = ("project_heads", "attention", "linear", "grouped_linear", "bias_gelu", "layer_norm", "tanh", "relu",
       "scaled_product")


def check_stops(monkeypatch, model, batch, needs, calls, also=()):
    """The ops called by a pass are those of `calls`, and the features are those needed, `also` what is on the way."""
    found = Counter()

    def spy(name, op):
        def counting(*arguments, **settings):
            found[name] += 1
            return op(*arguments, **settings)
        return counting
    for name in OPS:
        monkeypatch.setattr(ops, name, spy(name, getattr(ops, name)))
    needs, depth = Needs.of(**needs), len(model.layers)
    features = model(batch, Pass(needs=needs))
    assert found == Counter(calls)
    wanted = {(name, layer if layer is None else layer % depth) for name, layer in needs.wanted}
    assert flat(features).keys() == wanted | {("embeddings", None)} | {(name, None) for name in also}


def check_teacher_remembers_nothing(model, batch):
    with no_grad():
        features = model(batch, Pass(needs=everything(model.config)))
    assert not any(x.requires_grad or x.inputs for x in flat(features).values())


def check_what_losses_never_reached(model, batch, behind):
    """MiniLM's needs: None for every parameter whose name begins with one of `behind`, a gradient for all others."""
    features = model(batch, Pass(needs=Needs.of(queries=[-1], keys=[-1], values=[-1])))
    found = gradients(inner(features, random_upstream(features, 3)), model.parameters())
    found = dict(zip(model.named_parameters(), found))
    assert {name for name, g in found.items() if g is None} == {name for name in found if name.startswith(behind)}
    assert all(np.abs(dense(g)).max() > 0 for g in found.values() if g is not None)


def check_padding(model, head):
    """What stands in the padding changes no bit at real tokens, and gets gradient 0 from them."""
    batch, other = draw_batch(head), draw_batch(seed=99)
    poisoned = replace(batch, ids=np.where(batch.mask, batch.ids, other.ids),
                       token_types=np.where(batch.mask, batch.token_types, 1 - batch.token_types))
    features = [model(x, Pass(needs=everything(model.config))) for x in (batch, poisoned)]
    a, b = map(flat, features)
    assert (a["hidden", 0].array != b["hidden", 0].array).any()         # the poison arrived
    for place, x in a.items():
        np.testing.assert_array_equal(at_real_tokens(place, x.array, batch.mask),
                                      at_real_tokens(place, b[place].array, batch.mask), err_msg=str(place))
    upstream, needs = random_upstream(features[0], 4)["hidden", 0] * batch.mask[..., None], Needs.of(hidden=[-1])
    found = [gradients((model(x, Pass(needs=needs)).hidden[-1] * upstream).sum(), model.parameters())
             for x in (batch, poisoned)]
    for name, one, two in zip(model.named_parameters(), *found):
        if one is not None and name != "embeddings.word.weight":
            np.testing.assert_allclose(dense(one), dense(two), rtol=1e-9, atol=1e-12, err_msg=name)
    only_padding = np.setdiff1d(other.ids, batch.ids[batch.mask])
    assert len(only_padding) and not dense(found[1][0])[only_padding].any()


def check_shards(model, head, shards):
    """A row drops the same units in any split of the batch, and others under another number."""
    batch, needs = draw_batch(head), everything(model.config)

    def compute(part, rows):
        return flat(model(part, Pass(needs, training=True, seed=7, step=5, rows=rows)))
    whole = compute(batch, batch.rows)
    parts = [compute(part, part.rows) for part in batch.split(shards)]
    assert len(parts) == shards
    for place, x in whole.items():
        assert_close64(np.concatenate([part[place].array for part in parts]), x.array, str(place))
    assert np.abs(compute(batch, batch.rows + 4)["hidden", 0].array - whole["hidden", 0].array).max() > 0.1


def check_sites(model):
    sites = [module.site for _, module in model.named_modules() if isinstance(module, Dropout)]
    assert sites == list(range(len(sites))) and len(sites) > 3


def check_device(model, batch, cupy):
    """Forward and backward on the stand-in for CuPy: the numbers of the plain kernels, and no synchronisation."""
    run = Pass(needs=everything(model.config), training=True, rows=batch.rows)
    with kernels.use("plain"):
        features = model(batch, run)
        upstream = random_upstream(features, 6)
        truth = gradients(inner(features, upstream), model.parameters())
    model.to(cupy)
    moved, upstream = batch.to(cupy), {place: cupy.asarray(u) for place, u in upstream.items()}
    with strict_device.no_sync():
        there = model(moved, run)
        found = gradients(inner(there, upstream), model.parameters())
    for place, x in flat(features).items():
        assert_close64(to_host(flat(there)[place].array), x.array, str(place))
    for name, ours, theirs in zip(model.named_parameters(), found, truth, strict=True):
        assert_close64(to_host(dense(ours)), dense(theirs), name)


def check_float32_stays(model, batch):
    """In every Tensor of the graph, dropout and all, and in every gradient."""
    features = model(batch, Pass(needs=everything(model.config), training=True))
    loss = sum((x * x).sum() for x in flat(features).values())
    seen, stack = set(), [loss]
    while stack:
        tensor = stack.pop()
        if id(tensor) not in seen and hasattr(tensor, "inputs"):
            seen.add(id(tensor))
            stack.extend(tensor.inputs)
            for array in tensor.array if isinstance(tensor.array, tuple) else (tensor.array,):
                assert array.dtype == np.float32, f"a {array.shape} is {array.dtype}"
    assert len(seen) > 100
    assert all(dense(g).dtype == np.float32 for g in gradients(loss, model.parameters()))


def drop_everything(monkeypatch):
    """Bits of 0: at any rate above 0, dropout leaves nothing."""
    monkeypatch.setattr(Pass, "bits", lambda self, site, shape, like: np.zeros(shape, np.uint16))
