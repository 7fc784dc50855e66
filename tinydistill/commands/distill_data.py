"""What the stages of a distillation read: text, masked text or a task's examples, as the batch of each step."""

from dataclasses import dataclass

import numpy as np

from tinydistill.backend import xp_of
from tinydistill.commands import common
from tinydistill.commands.distill_vocabulary import TwoVocabularies
from tinydistill.commands.finetune import score
from tinydistill.data import corpora, inputs, tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.features import Needs
from tinydistill.methods.stage import MASKED, MASKED_EVERYWHERE, TASK, TEXT
from tinydistill.training.teacher_cache import open_or_build, require_cachable


@dataclass
class Rows:
    """The rows of a run: those of a corpus, and those of a task where there is one."""

    args: object
    tokenizer: object
    task: object = None
    splits: object = None
    texts: object = None
    held_out: object = None
    two: object = None                              # TwoVocabularies, where the student has one of its own

    @classmethod
    def load(cls, args, task, tokenizer):
        if task is None:
            rows = cls(args, tokenizer)
            rows.of_corpus()
            return rows
        task, splits = task.open(args.data)
        return cls(args, tokenizer, task=task, splits=splits)

    def with_vocabulary(self, settings, teacher):
        """TwoVocabularies where the method gives the student word pieces of its own, else None."""
        if self.task is None:
            self.two = TwoVocabularies.of(self.args, settings, self.of_corpus(), self.tokenizer, teacher)
        return self.two

    def of_corpus(self):
        """The corpus's training rows, documents with --pairs; pre-training on the way to a task reads them, too."""
        if self.texts is None:
            self.texts, self.held_out = corpora.parts(self.args.corpus, of_documents=self.args.pairs)
        return self.texts

    def require_read(self, plan):
        """Raises: WrongUsage where --pairs or --masking would change nothing."""
        reads = {stage.reads for stage in plan}
        for flag, given, what, needed in (("--pairs", self.args.pairs, "a corpus", {TEXT, MASKED, MASKED_EVERYWHERE}),
                                          ("--masking", self.args.masking, MASKED, {MASKED, MASKED_EVERYWHERE})):
            if given and not reads & needed:
                raise WrongUsage(f"need a stage that reads {what} for {flag}; "
                                 f"the stages here read {', '.join(sorted(reads))}")

    @property
    def are_pairs(self):
        """Whether each row is two texts."""
        return self.args.pairs if self.task is None else getattr(self.splits["train"], "pairs", None) is not None

    def count(self, stage, recipe):
        """How many rows the stage reads: pairs are counted after packing."""
        if stage.reads == TASK:
            return len(self.splits["train"])
        if self.args.pairs and recipe.epochs:
            return len(self.batches(stage, recipe).sequences)
        return len(self.of_corpus())

    def head(self, stage):
        """(head, labels) that the student has in this stage."""
        return (self.task.kind, self.task.labels) if stage.head == "task" else (stage.head, ())

    def batches(self, stage, recipe):
        """The stage's rows as Batches, before any masking."""
        if stage.reads == TASK:
            return inputs.labelled(self.splits["train"], self.tokenizer, recipe, self.args.seed)
        return self.of_text(self.of_corpus(), recipe)

    def of_text(self, rows, recipe):
        """Rows or documents of text as Batches."""
        return (inputs.paired if self.args.pairs else inputs.plain)(rows, self.tokenizer, recipe, self.args.seed)

    def batches_at(self, stage, recipe):
        """The global batch of each step of the stage."""
        if self.two:
            return self.two.batches_at(self.args, stage, recipe, self.of_corpus(), self.masking(stage))
        batches = self.batches(stage, recipe)
        if self.masking(stage) is None:
            return batches.at
        hide = self.masker(stage, batches)
        return lambda step: hide(batches.at(step), self.args.seed, step)

    def masking(self, stage):
        """The name of the way in which tokens are hidden, or None where the stage reads no masked text."""
        return (self.args.masking or stage.masking) if stage.reads in (MASKED, MASKED_EVERYWHERE) else None

    def masker(self, stage, batches):
        """mask(batch, seed, step): the batch as this stage reads it."""
        choose = inputs.masking(self.masking(stage), self.tokenizer, batches)

        def hide(batch, seed, step):
            batch = inputs.masked(batch, choose, self.args.mask_rate, seed, step)
            return inputs.read_everywhere(batch) if stage.reads == MASKED_EVERYWHERE else batch
        return hide

    def cached(self, stage, recipe, teacher, identity, student):
        """The teacher, or what --cache-teacher kept of it for this stage; student: the configuration.

        A student on its teacher's body reads of the cache what it would make of that body itself.
        """
        needs = stage.teacher_needs | student.frozen_needs
        if not self.args.cache_teacher or not needs.wanted:
            return teacher
        require_cachable(stage)
        named = identity | {"rows": str(self), "tokenizer": tokenizers.fingerprint(self.tokenizer),
                            "max_length": recipe.max_length, "backend": self.args.backend}
        return open_or_build(f"{self.args.cache_teacher}/{stage.name}", teacher, self.batches(stage, recipe),
                             needs, named, length=student.padded_length,
                             dtype=self.args.cache_dtype, quiet=self.args.quiet,
                             say=lambda line: common.say(self.args, line))

    def unseen(self, plan, recipes):
        """Held-out batches on which the terms of the last stage are measured, where it reads text; else none."""
        stage, recipe = plan[-1], recipes[-1]
        if stage.reads == TASK:
            return []
        if self.two:
            return list(self.two.unseen(self.args, recipe, self.held_out[:500], self.masking(stage)))
        batches = self.of_text(self.held_out[:500], recipe)
        fixed = [batch for _, batch in batches.once()]
        if self.masking(stage):
            hide = self.masker(stage, self.batches(stage, recipe))      # how often a token is seen in training
            fixed = [hide(batch, 0, i) for i, batch in enumerate(fixed)]
        return fixed

    def scores(self, student, recipe):
        """{"dev": the task's metrics} where there is a task with a dev split and the student has its head."""
        if self.task is None or "dev" not in self.splits or student.config.head != self.task.kind:
            return {}
        return {"dev": score(self.task, student, self.splits["dev"], self.tokenizer, recipe, self.args)}

    def as_dict(self):
        """What run.json keeps of it."""
        kept = {}
        if self.texts is not None:
            kept |= {"corpus": self.args.corpus, "pairs": self.args.pairs, "rows": len(self.texts)}
        if self.task is not None:
            kept |= {"task": self.task.name, "data": self.args.data, "rows": len(self.splits["train"])}
        return kept

    def __str__(self):
        if self.task is None:
            return f"{len(self.texts):,} {'documents' if self.args.pairs else 'rows'} of {self.args.corpus}"
        return f"{len(self.splits['train']):,} examples of {self.task.name}"


def place_of(model):
    """(library, dtype) of a model's parameters."""
    like = model.parameters()[0].array
    return xp_of(like), np.dtype(str(like.dtype))
