"""Comparing models fairly: each is fine-tuned the same way under the same seeds, and scored on the same examples."""

from tinydistill.data import inputs
from tinydistill.students.heads import with_head
from tinydistill.training import evaluation
from tinydistill.training.loop import train


def finetuned_scores(body, task, examples, tokenizer, stage, recipe, seeds, **training):
    """The task's headline metric on `examples["test"]` after fine-tuning on `examples["train"]`, one number a seed.

    A seed decides head, order and dropout, and is the same for every model that is compared: differences are paired.
    """
    test = inputs.labelled(examples["test"], tokenizer, recipe, 0)
    scores = []
    for seed in seeds:
        model = with_head(with_head(body, "none"), task.kind, task.labels, seed)        # never the body's own head
        batches = inputs.labelled(examples["train"], tokenizer, recipe, seed)
        train(model, stage, recipe, batches.at, seed=seed, quiet=True, **training)
        scores.append(task.score(evaluation.logits(model, test), test.labels)[task.metric])
    return scores
