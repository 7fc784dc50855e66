"""Comparing models fairly: each is fine-tuned the same way under the same seeds, and scored on the same examples."""

from dataclasses import replace

from tinydistill.data import inputs
from tinydistill.students.bert import Bert
from tinydistill.training import evaluation
from tinydistill.training.loop import train


def with_task_head(body, task, seed):
    """A model with the body's weights and a fresh head for the task, drawn by `seed`; the head the body had is left out.

    A sequence head reads a pooler, which is drawn too where the body has none.
    """
    config = replace(body.config, head=task.kind, labels=tuple(task.labels),
                     pooler=body.config.pooler or task.kind == "sequence")
    model = Bert(config, seed).to(evaluation.library_of(body), body.parameters()[0].dtype)
    kept = {name: array for name, array in body.arrays().items() if not name.startswith("head.")}
    return model.load({**model.arrays(), **kept})


def finetuned_scores(body, task, examples, tokenizer, stage, recipe, seeds, **training):
    """The task's headline metric on `examples["test"]` after fine-tuning on `examples["train"]`, one number a seed.

    A seed decides head, order and dropout, and is the same for every model that is compared: differences are paired.
    """
    test = inputs.labelled(examples["test"], tokenizer, recipe, 0)
    scores = []
    for seed in seeds:
        model = with_task_head(body, task, seed)
        batches = inputs.labelled(examples["train"], tokenizer, recipe, seed)
        train(model, stage, recipe, batches.at, seed=seed, quiet=True, **training)
        scores.append(task.score(evaluation.logits(model, test), test.labels)[task.metric])
    return scores
