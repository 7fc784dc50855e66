"""A student with word pieces of its own: its tokenizer, a teacher that gets to know them, and what both read."""

from dataclasses import dataclass

from tinydistill.commands import common
from tinydistill.data import inputs, mixed_vocabulary, tokenizer as tokenizers
from tinydistill.errors import WrongUsage
from tinydistill.methods.shared_projection import probability
from tinydistill.students.mixed_vocabulary import second_rows, widened, widened_config


@dataclass(frozen=True)
class TwoVocabularies:
    """The tokenizers of teacher and student, and how often a word of mixed text is cut by the student's."""

    first: object
    second: object
    rows: object                                    # of the second's pieces in a teacher that knows both
    p: float
    ramp: float

    @classmethod
    def of(cls, args, settings, texts, tokenizer, teacher):
        """Those of a method with the setting `vocabulary`, learned from the training rows; None where it has none, or 0.

        teacher: its configuration.
        """
        if not settings.get("vocabulary"):
            return None
        if args.pairs:
            raise WrongUsage("a student with a vocabulary of its own reads rows of text: leave --pairs out, or say "
                             "--set vocabulary=0")
        second = tokenizers.train_wordpiece(texts, settings["vocabulary"])
        common.say(args, f"the student gets {second.get_vocab_size():,} word pieces of its own")
        rows = second_rows(teacher.vocabulary, second.get_vocab_size(), mixed_vocabulary.shared_ids(tokenizer, second))
        return cls(tokenizer, second, rows, settings["p"], settings["ramp"])

    @property
    def size(self):
        return self.second.get_vocab_size()

    @property
    def shared(self):
        return mixed_vocabulary.shared_ids(self.first, self.second)

    def of_student(self, config):
        """The student's configuration with its own vocabulary."""
        return config.but(vocabulary=self.size, pad_id=tokenizers.special_ids(self.second).pad)

    def of_teacher(self, config):
        """The teacher's configuration with both."""
        return widened_config(config, self.size, self.shared)

    def taught(self, teacher, seed):
        """The teacher with both."""
        return widened(teacher, self.size, self.shared, seed)

    def batches_at(self, args, stage, recipe, texts, masking):
        """The masked TwoTexts of each step of a stage."""
        ramp = self.ramp if stage.name == "mixed" else 0.0
        return mixed_vocabulary.batches_at(
            texts, self.first, self.second, self.rows, recipe, args.seed, masking=masking, rate=args.mask_rate,
            probability=lambda step: probability(step, recipe.steps, self.p, ramp))

    def unseen(self, args, recipe, texts, masking):
        """Held-out texts as the student reads them, masked in one fixed way."""
        batches = inputs.plain(texts, self.second, recipe, args.seed)
        return inputs.masked_once(batches, inputs.masking(masking, self.second, batches), args.mask_rate, 0)
