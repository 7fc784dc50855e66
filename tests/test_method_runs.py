"""Every method as a run, its whole plan stage by stage: what goes down, what is trained, what is kept and what not."""

import functools
import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

import strict_device
from method_toys import CASES, LABELS, STEPS, copies, models, phases, projections_of
from tinydistill import hub
from tinydistill.data import inputs
from tinydistill.data.tokenizer import train_wordpiece
from tinydistill.errors import Stopped
from tinydistill.features import Features
from tinydistill.hub_names import FORMS
from tinydistill.methods import METHODS
from tinydistill.tasks.tagging import Tagged
from tinydistill.tensor import Tensor, gradients
from tinydistill.training import loop, schedules
from tinydistill.training.loop import METHOD, STATE, train_phases
from toys import Memory, assert_all_within

each_case = pytest.mark.parametrize("name", CASES)
learning = pytest.mark.parametrize("name", [
    name for name, case in CASES.items() if any(term.projection_names for stage in case.plan(*models(case))
                                                for _, term in stage.terms)])

# Of a student of two layers: the parameters that a stage of a method does not reach, by how their names begin.
PROJECTED = ("layers.1.attention.output", "layers.1.attention_norm", "layers.1.feed_forward", "pooler")
HEADLESS, MAPS = ("pooler", "head"), (METHOD,)
FIRST_LAYER = ("layers.1", *HEADLESS)
PRETRAIN = {"pretrain": ("pooler",)}
BY_LAYER = {"layer 1": FIRST_LAYER, "layer 2": HEADLESS, "logits": ()}
OUTSIDE = ("embeddings", *HEADLESS)
LAYER_BY_LAYER = {"layer 1": ("layers.1", *OUTSIDE), "layer 2": OUTSIDE, "distil": ("pooler",)}
JOINT = {"transfer": HEADLESS, "distil": ("pooler",)}
TOGETHER = {"mixed": ("student", "teacher.pooler", *MAPS), "dual": ("teacher.pooler",)}     # whose weight the student's has
UNREACHED = {
    "minilm": {"distil": PROJECTED},                # stops where the last layer has made queries, keys and values
    "minilm, attention-only": {"distil": PROJECTED + ("layers.1.attention.value",)},
    "minilm, value-mse": {"distil": PROJECTED},
    "minilm, hidden-relation": {"distil": ("pooler",)},
    "minilm, layer-to-layer": {"distil": PROJECTED},
    "minilm-v2": {"distil": PROJECTED},
    "minilm-v2, 4 relation heads": {"distil": PROJECTED},
    "mlm-kd": {"distil": ("pooler",)},
    "distilbert": {"distil": ("pooler",)},
    "tinybert": {"general": ("pooler",)},
    "tinybert, official": {"general": ("pooler",)},
    "tinybert on a task": {"intermediate": HEADLESS, "prediction": MAPS},
    "tinybert on a task, official": {"intermediate": HEADLESS, "prediction": MAPS},
    "kd": {"distil": ()},
    "pkd-skip": {"distil": ()},
    "pkd-skip, official": {"distil": ()},
    "pkd-last": {"distil": ()},
    "pkd-last, official": {"distil": ()},
    "internal": {"distil": ()},
    "internal-pid": BY_LAYER,
    "internal-sid": BY_LAYER,
    "fitnets": {"hint": FIRST_LAYER, "distil": MAPS},
    "attention-transfer": {"distil": ()},
    "attention-transfer, official": {"distil": ()},
    "tang": {"distil": ()},
    "tang, official": {"distil": ()},
    "turc": PRETRAIN | {"distil": (), "finetune": ()},
    "mobilebert": LAYER_BY_LAYER,
    "mobilebert, official": LAYER_BY_LAYER,
    "mobilebert, joint": JOINT,
    "mobilebert, joint, official": JOINT,
    "mobilebert, auxiliary": {"distil": ("pooler",)},
    "mobilebert, auxiliary, official": {"distil": ("pooler",)},
    "theseus": {"replace": ("predecessor",)},
    "theseus, official": {"replace": ("predecessor",)},
    "theseus, constant": {"replace": ("predecessor",)},
    "sequence-labels": PRETRAIN | {"distil": ("pooler",)},
    "q8bert": {"finetune": ()},
    "q-bert": {"finetune": ()},
    "bert-vision": {"pool": ("embeddings", "layers")},
    "adapters": {"adapt": ("embeddings.word", "embeddings.position", "embeddings.token_type", "pooler", *(
        f"layers.{l}.{part}." for l in range(4) for part in ("attention", "feed_forward")))},
    "shared-projection": TOGETHER,
    "shared-projection, up": TOGETHER,
    "shared-projection, both": TOGETHER,
    "layerdrop": PRETRAIN,
    "layerdrop on a task": {"finetune": ()},
}


def run(name, memory, seed=0, stop=None, steps=STEPS, save_every=1, xp=np):
    """The whole plan. seed: of the student and of the maps; a run that resumes must forget what they were."""
    case = CASES[name]
    student, teacher = models(case, seed)
    maps, began = projections_of(case, student, teacher, 2 + seed), []
    at_first = copies(maps)
    whole = phases(case, student, teacher, steps=steps, seen=began, on=models(case)[1].to(xp))
    student, maps = student.to(xp), maps.to(xp)
    trained, _ = train_phases(student, whole, projections=maps, directory=memory, save_every=save_every, log_every=1,
                              stop=stop, quiet=True)
    return SimpleNamespace(student=trained, teacher=whole[0].teacher, maps=maps, maps_at_first=at_first, phases=whole,
                           began=began, memory=memory)


@functools.cache
def uninterrupted(name, steps=STEPS):
    return run(name, Memory(), steps=steps)


def stages(name):
    """(number, phase, all parameters' arrays as it began, and as it ended, steps of those it reached) of each."""
    done = uninterrupted(name)
    maps = {METHOD + label: array for label, array in done.maps_at_first.items()}
    for i, phase in enumerate(done.phases):
        saved, meta = done.memory.saved[(i + 1) * STEPS]
        after = {label.removeprefix("model/"): array for label, array in saved.items()
                 if label.startswith("model/") and not label.startswith("model/" + STATE)}
        yield i, phase, done.began[i] | maps, after, json.loads(meta)["optimizer_steps"]
        maps = {label: array for label, array in after.items() if label.startswith(METHOD)}


def test_every_method_is_here_and_every_way_to_ask_for_it():
    assert {case.method for case in CASES.values()} == set(METHODS) and CASES.keys() == UNREACHED.keys()
    for name, case in CASES.items():
        assert [stage.name for stage in case.plan(*models(case))] == list(UNREACHED[name])


# ---------------------------------------------------------------- down

@pytest.mark.parametrize("name", [name for name in CASES if name != "theseus"])         # which ends before all is replaced
def test_every_term_of_every_stage_goes_down(name):
    lines = uninterrupted(name).memory.lines
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    for i, phase, *_ in stages(name):
        own, weights = lines[i * STEPS:(i + 1) * STEPS], phase.stage.weights(STEPS - 1, STEPS)
        names = [term.name for _, term in phase.stage.terms]
        if len(names) > 3 and name.endswith("official"):                # 5000 of one beside 1 of another: their sum
            own = [{"sum": sum(w * line[term] for w, term in zip(weights, names))} for line in own]
            names = ["sum"]
        for term in names:
            values = [line[term] for line in own]
            down = values[-1] < 0.97 * values[0] and np.mean(values[-3:]) < np.mean(values[:3])
            assert down, (phase.stage.name, term, values)          # 0.97: cross-entropies end at an entropy


@each_case
def test_every_stage_follows_the_schedule_and_the_weights_of_its_recipe_from_the_start(name):
    for i, phase, *_ in stages(name):
        recipe, own = phase.recipe, uninterrupted(name).memory.lines[i * STEPS:(i + 1) * STEPS]
        factor = schedules.get(recipe.schedule)
        assert [line["learning_rate"] for line in own] == [
            recipe.learning_rate * factor(step, STEPS, recipe.warmup) for step in range(STEPS)]
        for step, line in enumerate(own):
            weighted = zip(phase.stage.weights(step, STEPS), phase.stage.terms)
            assert line["loss"] == sum(weight * line[term.name] for weight, (_, term) in weighted)


def test_tsai_learns_from_the_first_piece_of_each_word_and_from_nothing_else():
    tokenizer = train_wordpiece(["go goes going gone", "so soon"], 20)
    sentences = [["going", "so", "gone", "going"], ["soon"], ["so", "goes"]]
    pieces = [[len(tokenizer.encode(word, add_special_tokens=False).ids) for word in words] for words in sentences]
    assert max(map(max, pieces)) > 2 and min(map(min, pieces)) == 1
    stage = METHODS["sequence-labels"].stages()[1]
    recipe = stage.recipes["paper"].but(batch_size=3, max_length=64)
    tagged = Tagged(sentences, [[0] * len(words) for words in sentences], LABELS)
    batch = inputs.labelled(tagged, tokenizer, recipe, 0).at(0)
    rng, ((weight, term),) = np.random.default_rng(0), stage.terms
    student, teacher = (Tensor(rng.standard_normal((batch.ids.size, 3)), requires_grad=True) for _ in range(2))
    both = (Features("toy", 1, batch.mask, logits=logits) for logits in (student, teacher))
    found, of_teacher = gradients(weight * term(*both, batch, term.divisor(batch)), [student, teacher])
    learned = found.reshape(*batch.ids.shape, 3).any(axis=2)                            # (B, T)
    for index, row in zip(batch.indices, learned):
        first = np.cumsum([1, *pieces[index][:-1]])                                     # [CLS] stands before
        assert list(np.flatnonzero(row)) == list(first)
    assert of_teacher is None


# ---------------------------------------------------------------- what is trained

@each_case
def test_gradients_reach_exactly_what_they_should(name):
    for _, phase, before, after, steps in stages(name):
        unreached = {label for label in before if label.startswith(UNREACHED[name][phase.stage.name])}
        assert before.keys() - steps.keys() == unreached, phase.stage.name
        taken = STEPS - (phase.stage.rates is not None and name.startswith("mobilebert"))   # whose first step has rate 0
        assert set(steps.values()) == {taken} or phase.stage.decisions      # which leave some out of a step
        assert before.keys() == after.keys()
        for label, array in before.items():
            same = (array == after[label]).all()
            if label in unreached:
                assert same, label                  # no decay either
            elif not label.endswith("key.bias"):    # which softmax forgets: its gradient is rounding
                assert not same, label


@each_case
def test_the_teacher_stays_as_it_was(name):
    teacher, fresh = uninterrupted(name).teacher, models(CASES[name])[1]
    for label, array in teacher.arrays().items():
        assert (array == fresh.arrays()[label]).all(), label
    assert all(parameter.grad is None for parameter in teacher.parameters())


@learning
def test_learned_maps_are_trained_and_kept_in_checkpoints_but_not_in_the_student(name, tmp_path):
    done = uninterrupted(name)
    assert len(done.maps)
    for label, array in done.maps.arrays().items():
        assert not (array == done.maps_at_first[label]).all()
        kept = [saved[f"model/{METHOD}{label}"] for saved, _ in done.memory.saved.values()]
        assert (kept[-1] == array).all() and len({x.tobytes() for x in kept}) >= STEPS - 1    # warm-up: rate 0
    hub.write(done.student, tmp_path)
    exported = load_file(tmp_path / hub.WEIGHTS)
    assert not [label for label in exported for own in done.maps.arrays() if own in label or METHOD in label]
    body = {label.removeprefix("bert.") for label in exported}
    form, config = FORMS["bert"], done.student.config
    assert body == {form.name(label).removeprefix("bert.") for label in done.student.arrays() if form.written(config, label)}


# ---------------------------------------------------------------- stopped and resumed

def assert_same_run(memory, whole):
    (arrays, meta), (want, want_meta) = memory.saved[max(whole.saved)], whole.saved[max(whole.saved)]
    assert json.loads(meta) == json.loads(want_meta) and arrays.keys() == want.keys()
    for label, array in want.items():
        assert (arrays[label] == array).all(), label


@each_case
def test_a_run_that_was_killed_goes_on_to_the_same_bits_within_a_stage_and_between_stages(name):
    whole = uninterrupted(name, steps=3).memory
    for last in range(1, max(whole.saved)):
        memory = Memory()
        memory.saved = {step: saved for step, saved in whole.saved.items() if step <= last}
        run(name, memory, seed=1, steps=3)
        assert_same_run(memory, whole)
        assert memory.lines[0]["step"] == last + 1
    finished = Memory()
    finished.saved = dict(whole.saved)
    run(name, finished, seed=1, steps=3)
    assert finished.lines == []


@pytest.mark.parametrize("when", [2, 4, 5])         # within the first stage, at the start of the second, within it
def test_a_signal_stops_a_method_of_two_stages_where_it_is(when):
    name, memory, stop = "tinybert on a task", Memory(), SimpleNamespace(requested=None)
    memory.log = lambda step, **metrics: setattr(stop, "requested", signal.SIGINT if step == when else None)
    stage_step = (when - 1) % 3 + 1
    with pytest.raises(Stopped, match=f"^stopped at step {stage_step} of 3, saved in memory: go on with --resume$"):
        run(name, memory, stop=stop, steps=3, save_every=100)
    assert max(memory.saved) == when
    del memory.log
    run(name, memory, seed=1, steps=3)
    assert_same_run(memory, uninterrupted(name, steps=3).memory)


# ---------------------------------------------------------------- on a device

@each_case
def test_on_a_device_the_numbers_are_numpys_and_forward_and_backward_never_wait(name, strict_cupy, monkeypatch):
    def without_waiting(*arguments, **settings):
        with strict_device.no_sync():
            return batch_gradient(*arguments, **settings)

    want, memory, batch_gradient = uninterrupted(name, steps=3).memory, Memory(), loop.batch_gradient
    monkeypatch.setattr(loop, "batch_gradient", without_waiting)
    run(name, memory, steps=3, xp=strict_cupy)
    (arrays, meta), (want_arrays, want_meta) = memory.saved[max(memory.saved)], want.saved[max(want.saved)]
    assert json.loads(meta) == json.loads(want_meta)
    assert_all_within(arrays, want_arrays, 1e-10)
    for line, want_line in zip(memory.lines, want.lines, strict=True):
        for label in want_line.keys() - {"tokens_per_second", "seconds"}:
            assert abs(line[label] - want_line[label]) <= 1e-10 * abs(want_line[label]), label
