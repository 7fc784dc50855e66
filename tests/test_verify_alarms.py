"""False alarms and missed errors of the conformance kit, counted.

Right implementations must pass: PyTorch and tinydistill, in float32 and float64, on numbers that no vector has. For 60
seeds of every loss, piece and rule, and 3 of every model, one case of that seed is judged, all kinds of cases in turn
and all conventions that somebody implements. Most equations have both implementations; PyTorch has no layer maps and
not all masks and schedules, and tinydistill no single step of an LSTM. Trajectories (ten steps of a training) are not
among them: their truth takes ten seconds a case. test_vectors.py has them on their stored vectors.

Wrong implementations must fail and be named. They are written in PyTorch, not in NumPy as the kit's own traps are, so
that a diagnosis is not made from the numbers of the very code that it knows.
"""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np

from oracle import rules, verify_alarms as oracle, verify_mistakes, verify_mistakes_pieces
from small_bert import dense, flat
from tinydistill import conformance
from tinydistill.tensor import gradients
from tinydistill_reference import report, truth
from tinydistill_reference.adapters import torch_
from tinydistill_reference.diagnose import matches
from tinydistill_reference.equation import equations, is_floating
from tinydistill_reference.generate import cases_of
from tinydistill_reference.runner import run
from tinydistill_reference.store import Stored
from vector_models import BERT, BILSTM, MOBILEBERT, as_stored, batch_of, loss_of, model_of, name_of, with_everything
from vector_rules import OURS, ours

SEEDS, OF_MODELS = 60, 3
SURE = 0.1                                          # of what is allowed: no closer look is needed
NAMES = [name for name in equations() if not name.startswith("trajectory.")]
KINDS = {name: [i for i, case in enumerate(cases_of(equations()[name])) if case.result == "valid"] for name in NAMES}


# ---------------------------------------------------------------- who is judged

CONFIGS = {"model.bert": BERT.but(head="masked-lm"), "model.bert_features": BERT.but(head="masked-lm"),
           "model.mobilebert": MOBILEBERT, "model.bilstm": BILSTM}


def our_model(equation, attrs, inputs, grads, upstream, dtype):
    """A model of tinydistill with the weights of the case."""
    config = CONFIGS[equation]
    model, batch = model_of(config, inputs).to(np, np.dtype(dtype)), batch_of(inputs)
    if equation == "model.bert_features":
        outputs = {name if layer is None else f"{name}.{layer}": x
                   for (name, layer), x in flat(model(batch, with_everything(config))).items()}
        outputs["logits"] = outputs["logits"].reshape(*batch.ids.shape, -1)             # (B*T, V) -> (B, T, V)
    else:
        outputs, upstream = {"value": loss_of(model, batch)}, {"value": upstream}
    total = sum((y * np.asarray(upstream[name], dtype)).sum() for name, y in outputs.items())
    found = {f"d{name_of(config, label)}": None if g is None else as_stored(config, label, dense(g))
             for label, g in zip(model.named_parameters(), gradients(total, model.parameters()))}
    return {name: y.array for name, y in outputs.items()} | found


def implementations(name, convention):
    """{who: call} of all there are for an equation under a convention."""
    found = {}
    if name in conformance.ANSWERED:
        found["tinydistill"] = conformance.answer(convention)
    elif name in CONFIGS:
        found["tinydistill"] = our_model
    elif (name, convention) in OURS:
        found["tinydistill"] = ours(convention)
    if name in oracle.LOSSES or name in oracle.pieces.PIECES or name in CONFIGS:
        found["PyTorch"] = oracle.answer(convention)
    elif (name, convention) in rules.RULES:
        found["PyTorch"] = rules.answer(convention)
    return found


def chosen(name, seed):
    """(case, convention) of a seed: kinds of cases in turn, and conventions that somebody implements."""
    equation, kinds = equations()[name], KINDS[name]
    case = next(islice(cases_of(equation, seed), kinds[seed % len(kinds)], None))
    among = [c for c in equation.conventions if case.conventions is None or c in case.conventions]
    among = [c for c in among if implementations(name, c)]
    return case, among[seed // len(kinds) % len(among)]


def results(name, case, convention, known):
    """[(who, Result)] of all implementations in both precisions, held to this truth."""
    stored = [Stored(case, {convention: known}, ())]
    return [(who, run(equations()[name], call, dtype, convention, stored=stored, strict=True))
            for who, call in implementations(name, convention).items() for dtype in ("float64", "float32")]


def compared(result):
    return [c for outcome in result.outcomes for found in outcome.comparisons.values() for c in found]


def judged(name, seed):
    """The same by the truth of the kit. Its kappa takes thirteen runs of the printed code, which are spared where they
    cannot matter: it is at least 4 max|truth|, and errors are a tenth of what that allows, or less."""
    equation, (case, convention) = equations()[name], chosen(name, seed)
    settings = equation.settings(convention)
    expect = truth.in_float64(equation, case, settings)
    least = {tensor: 4 * np.abs(x[np.isfinite(x)]).max(initial=0) if is_floating(x) else 0
             for tensor, x in expect.items()}
    known = truth.Truth(expect, least, truth.structural_zeros(equation, case, settings, expect))
    found = results(name, case, convention, known)
    if all(result.status == "passed" and all(c.error <= SURE for c in compared(result)) for _, result in found):
        return found
    return results(name, case, convention, replace(known, kappa=truth.kappa(equation, case, settings, expect)))


# ---------------------------------------------------------------- right ones pass

def test_no_right_implementation_is_refused(capsys):
    tensors, largest, failures, judges = Counter(), {}, [], {name: set() for name in NAMES}
    for name in NAMES:
        for seed in range(1, 1 + (OF_MODELS if name in CONFIGS else SEEDS)):
            for who, result in judged(name, seed):
                judges[name].add(who)
                if result.status != "passed":
                    failures.append(f"{who}, seed {seed}: " + "\n".join(report.lines(result)))
                tensors[who] += len(compared(result))
                error = max(c.error for c in compared(result)), f"{name} in {result.dtype}"
                largest[who] = max(largest.get(who, error), error)
    both = sum(len(who) == 2 for who in judges.values())
    with capsys.disabled():
        print(f"\n{tensors.total():,} tensors of {len(judges)} equations, {both} of them by both: {len(failures)} "
              f"false alarms. {SEEDS} seeds, {OF_MODELS} of models. Largest errors, where 1 is allowed:", "; ".join(
                  f"{who} {error:.2f} ({where}), of {tensors[who]:,}"
                  for who, (error, where) in sorted(largest.items())))
    assert not failures, "\n\n".join(failures[:20])


# ---------------------------------------------------------------- wrong ones do not, and are named

def test_mistakes_in_pytorch_are_found_and_named(capsys):
    """By the right trap before all others. Some differ from it in what padding gets, and equal it in part."""
    passed, misnamed, whole, wrong = [], [], 0, verify_mistakes.WRONG + verify_mistakes_pieces.WRONG
    for name, flag, function in wrong:
        result = run(equations()[name], torch_.adapt(function), "float32", strict=True)
        first, second, *_ = matches(equations()[name], result.outcomes, "float32")
        if result.status != "failed" or any(outcome.words for outcome in result.of("failed")):
            passed.append((name, flag, result.status, [outcome.words for outcome in result.outcomes]))
        if first.trap.flag != flag or first.share <= second.share:
            misnamed.append((name, flag, first.trap.flag, first.share, second.trap.flag, second.share))
        whole += first.trap.flag == flag and first.share == 1
    with capsys.disabled():
        print(f"\n{len(wrong)} mistakes written in PyTorch: {len(wrong) - len(passed)} failed, "
              f"{len(wrong) - len(misnamed)} were named, {whole} of them with every number explained")
    assert not passed and not misnamed
