"""The learned maps of a method: trained and resumed beside the student, used by its losses alone, never exported."""

from tinydistill.nn import Linear, Module


class Projections(Module):
    """The maps that the terms of some stages name: {name: Linear from student to teacher width}."""

    def __init__(self, stages, student, teacher, seed=0, std=0.02):
        named = [(name, term.projection_bias) for stage in stages for _, term in stage.terms for name in term.projection_names]
        for name, bias in dict(named).items():
            setattr(self, name, Linear(student.hidden, teacher.hidden, bias=bias))
        self.initialise(seed, std)

    def __getitem__(self, name):
        return vars(self)[name]

    def __len__(self):
        return len(vars(self))
