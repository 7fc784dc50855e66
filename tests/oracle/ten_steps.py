"""Distillation in PyTorch: steps of six methods with transformers' BERT, for a student of 2 layers and a teacher of 4.

Losses, weights and pairs of layers are written out here; optimisers and the gradient are PyTorch's.
"""

import torch
import transformers
from torch.nn.functional import cross_entropy

from oracle import bert, distilbert, internal, minilm, minilm_v2, optimizers, pkd, soft_labels, tinybert

UNIFORM = ((0, 1), (1, 3))                          # (student layer, teacher layer), counted from 0


def _minilm(student, teacher, batch, mask, maps):
    def last(features):                             # of any depth
        depth = sum(field == "queries" for field, _ in features)
        return [features[field, depth - 1] for field in ("queries", "keys", "values")]
    arrays = *last(student), *last(teacher), mask
    return {"minilm.attention": (1.0, minilm.attention(*arrays)),
            "minilm.value_relation": (1.0, minilm.value_relation(*arrays))}


def _minilm_v2(student, teacher, batch, mask, maps):
    return {f"minilm_v2.{name}": (1.0, minilm_v2.relation_transfer(student[name, 1], teacher[name, 3], mask, 2))
            for name in ("queries", "keys", "values")}


def _tinybert(student, teacher, batch, mask, maps):
    def hidden(place, teachers_place, name):
        return tinybert.hidden(student[place], maps[f"{name}.weight"], None, teacher[teachers_place], mask)
    return {"tinybert.embedding": (1.0, hidden(("embeddings", None), ("embeddings", None), "tinybert.W_e")),
            "tinybert.hidden": (1.0, sum(hidden(("hidden", s), ("hidden", t), "tinybert.W_h") for s, t in UNIFORM)),
            "tinybert.attention": (1.0, sum(tinybert.attention(student["scores", s], teacher["scores", t], mask)
                                            for s, t in UNIFORM))}


def _tinybert_official(student, teacher, batch, mask, maps):
    def hidden(place, teachers_place):
        learned = [maps[f"tinybert.fit_dense.{kind}"] for kind in ("weight", "bias")]
        return tinybert.hidden_official(student[place], *learned, teacher[teachers_place], mask)
    return {"tinybert.embedding": (1.0, hidden(("embeddings", None), ("embeddings", None))),
            "tinybert.hidden": (1.0, sum(hidden(("hidden", s), ("hidden", t)) for s, t in UNIFORM)),
            "tinybert.attention_official": (1.0, sum(
                tinybert.attention_official(student["scores", s], teacher["scores", t], mask) for s, t in UNIFORM))}


def _prediction(student, teacher, batch, mask, maps):
    return {"tinybert.prediction": (1.0, tinybert.prediction(*_logits(student, teacher), None))}


def _prediction_official(student, teacher, batch, mask, maps):
    return {"tinybert.prediction": (1.0, tinybert.prediction_official(*_logits(student, teacher), None))}


def _distilbert(student, teacher, batch, mask, maps):
    logits, labels = _logits(student, teacher), torch.tensor(batch.labels.ravel()[batch.positions]).long()
    return {"distilbert.soft_labels": (5.0, soft_labels.paper(*logits, slice(None), None, 2.0)),
            "masked_lm": (2.0, cross_entropy(logits[0], labels, ignore_index=-100)),
            "distilbert.cosine": (1.0, distilbert.cosine(student["hidden", 1], teacher["hidden", 3], mask))}


def _pkd(soft, patience, beta):
    def pkd_skip(student, teacher, batch, mask, maps):
        logits = _logits(student, teacher)
        return {"cross_entropy": (1 - 0.7, cross_entropy(logits[0], torch.tensor(batch.labels).long())),
                "soft_labels.classes": (0.7, soft(*logits, slice(None), None, 10.0)),
                "pkd.patience": (beta, patience(student["hidden", 0], teacher["hidden", 1], mask))}
    return pkd_skip


def _internal(student, teacher, batch, mask, maps):
    pairs = [[(student[name, s], teacher[name, t], mask) for s, t in UNIFORM] for name in ("scores", "hidden")]
    return {"internal.attention": (1.0, sum(internal.attention(*pair) for pair in pairs[0])),
            "internal.cosine": (1.0, sum(internal.cosine(*pair) for pair in pairs[1])),
            "soft_labels.classes": (1.0, soft_labels.paper(*_logits(student, teacher), slice(None), None, 1.0))}


def _logits(student, teacher):
    return student["logits", None], teacher["logits", None]


OBJECTIVES = {                                      # of each stage
    "minilm": (_minilm,),
    "minilm-v2": (_minilm_v2,),
    "tinybert": (_tinybert,),
    "tinybert, official": (_tinybert_official,),
    "tinybert on a task": (_tinybert, _prediction),
    "tinybert on a task, official": (_tinybert_official, _prediction_official),
    "distilbert": (_distilbert,),
    "pkd-skip": (_pkd(soft_labels.paper, pkd.paper, 500 / (5 * 768)),),
    "pkd-skip, official": (_pkd(soft_labels.pkd, pkd.official, 500.0),),
    "internal": (_internal,),
}


def steps(objective, student, teacher, maps, batches, recipe, factors=None):
    """One step of the stage for each batch: [{term: value, "loss": the weighted sum, "gradient_norm": before clips}].

    student, teacher: transformers' models; maps: {name: torch parameter}. Student and maps are trained where they are.
    factors(step, name): of the rate of each parameter; one of 0 leaves it alone and its moments at 0.
    """
    parameters = dict(student.named_parameters()) | maps
    optimizer = optimizers.make(recipe.optimizer, parameters, recipe,
                                lambda name: not name.endswith("bias") and "LayerNorm" not in name)
    optimizer.param_groups = [group | {"params": [p]} for group in optimizer.param_groups for p in group["params"]]
    names = {id(p): name for name, p in parameters.items()}
    schedule = _schedule(optimizer, recipe)
    values = []
    for step, batch in enumerate(batches):
        with torch.no_grad():
            taught = bert.graph(teacher, batch)
        terms = objective(bert.graph(student, batch), taught, batch, torch.tensor(batch.mask), maps)
        loss = sum(weight * value for weight, value in terms.values())
        optimizer.zero_grad()
        loss.backward()
        found = [p.grad for p in parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(found)
        if recipe.optimizer != "bert-adam":         # which clips each gradient by itself
            for g in found:                         # clip_grad_norm_ divides by norm + 1e-6
                g *= min(1.0, recipe.clip / max(norm.item(), 1e-30))
        for group in optimizer.param_groups if factors else ():
            p, = group["params"]
            group["lr"] *= factors(step, names[id(p)])
            if group["lr"] == 0:
                p.grad = None
                optimizer.state.pop(p, None)
        optimizer.step()
        schedule.step()
        values.append({name: value.item() for name, (_, value) in terms.items()}
                      | {"loss": loss.item(), "gradient_norm": norm.item()})
    return values


def _schedule(optimizer, recipe):
    name = {"linear": "linear", "constant": "constant_with_warmup"}.get(recipe.schedule)
    if name:
        return transformers.get_scheduler(name, optimizer, recipe.warmup, recipe.steps)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: (                     # MobileBERT's: down to 1/10000
        s / recipe.warmup if s < recipe.warmup else 1e-4 + (1 - 1e-4) * (1 - s / recipe.steps)))


def maps_of(arrays):
    """{name: torch parameter} with these values."""
    return {name: torch.nn.Parameter(torch.tensor(array)) for name, array in arrays.items()}


def arrays_of(parameters):
    """{name without the `bert.` in front: NumPy array} of {name: torch parameter}."""
    return {name.removeprefix("bert."): p.detach().numpy() for name, p in parameters.items()}
