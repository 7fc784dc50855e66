"""Shared projections (Zhao et al. 2019): a teacher and its student as one model, which are trained at once.

    student    reads a text in its own, small vocabulary
    teacher    reads the same text, `batch.mixed`, in words of its vocabulary and the student's

Beside what the two compute stand their weights of matching roles. Those that have a row for each piece are, of a
teacher with two vocabularies, its rows of the student's: they are what its training on mixed text is for.

The student is a plain BERT before, in between and after. No weight of it is a product of projections, which are used in
the loss alone: there is nothing to fold.

Source: Zhao et al. 2019 (abstract); the rest is unverified, as in `losses/shared_projection.py`.
"""

from dataclasses import dataclass, fields, replace

from tinydistill.backend import xp_of
from tinydistill.errors import WrongUsage
from tinydistill.features import PER_LAYER, Features, Needs
from tinydistill.nn import Module
from tinydistill.nn.layers import number_dropouts
from tinydistill.students.mixed_vocabulary import WORDS

LOGITS = Needs.of(logits=True)


@dataclass(frozen=True)
class DualFeatures(Features):
    """f(e) of the student, and of its teacher in `mixed`.

    weights: ({name: Tensor}, {name: array}), the student's and the teacher's of matching roles.
    """

    mixed: Features | None = None
    weights: tuple = ({}, {})

    @classmethod
    def of(cls, own, mixed, weights=({}, {})):
        """The student's Features with those of its teacher."""
        whole = cls(**{field.name: getattr(own, field.name) for field in fields(own) if field.init}, mixed=mixed,
                    weights=weights)
        for name in PER_LAYER:
            getattr(whole, name).update(getattr(own, name))
        return whole


class Dual(Module):
    """batch -> DualFeatures. A batch without `mixed` is one that both read as it is.

    teacher: a BERT, of two vocabularies or of the student's own. It is copied: the one given stays as it was.
    alone: only the teacher reads; the features of the student are empty.
    Raises: WrongUsage where the teacher does not know the student's vocabulary.
    """

    def __init__(self, student, teacher, alone=False):
        require_vocabulary(student.config, teacher.config)
        self.student = student                      # first, so that its dropouts keep their numbers
        like = teacher.parameters()[0].array
        self.teacher = type(teacher)(teacher.config, seed=None).to(xp_of(like), like.dtype).load(teacher.arrays())
        self.config, self.alone = student.config, alone
        number_dropouts(self)

    def __call__(self, batch, run):
        mixed = self.teacher(getattr(batch, "mixed", batch), replace(run, needs=LOGITS))
        if self.alone:
            return DualFeatures.of(Features(str(self.config), self.config.layers, batch.mask), mixed)
        return DualFeatures.of(self.student(batch, run), mixed, self.weights())

    def weights(self):
        """The student's parameters and the teacher's arrays, of all roles that both have.

        Shapes: {name: (rows, columns) or (rows,)}; of words and their biases, the rows of the student's vocabulary.
        """
        own, theirs = self.student.named_parameters(), self.teacher.named_parameters()
        own = {name: weight for name, weight in own.items() if name in theirs}
        return own, {name: self._known(name, theirs[name].array) for name in own}

    def _known(self, name, array):
        """The teacher's array, of what has a row a piece only those of the student's vocabulary."""
        if name not in WORDS or not hasattr(self.teacher.config, "second_rows"):
            return array
        return array[xp_of(array).asarray(self.teacher.config.second_rows)]


def require_vocabulary(student, teacher):
    """Raises: WrongUsage where a teacher's configuration does not know the vocabulary of the student's."""
    known = getattr(teacher, "second_vocabulary", teacher.vocabulary)
    if student.vocabulary != known:
        raise WrongUsage(f"need a teacher that knows the student's vocabulary of {student.vocabulary:,} word pieces; "
                         f"{teacher} knows {known:,}")
