"""The `call` of a Python function, whatever it computes with."""

from tinydistill_reference.adapters.binding import bind
from tinydistill_reference.equation import equations


class Call:
    """evaluate(binding, inputs, attrs, grads, upstream, dtype) -> answer is what torch_, jax_ and numpy_ differ in;
    inputs: those that the function gets; upstream: {output: gradient}. The rest as in binding.bind."""

    def __init__(self, function, evaluate, signature=None, extra=()):
        self.function, self.evaluate, self.signature, self.extra = function, evaluate, signature, extra
        self.binding = None

    def bind(self, equation):
        """Settle what goes where. Raises TargetError."""
        self.binding = bind(self.function, equation, self.signature, self.extra)

    @property
    def bound(self):
        return self.binding.bound if self.binding else ""

    @property
    def untaken(self):
        return self.binding.untaken if self.binding else ""

    def __call__(self, equation, attrs, inputs, grads, upstream, dtype):
        if self.binding is None or self.binding.equation.name != equation:
            self.bind(equations()[equation])
        if not self.binding.fits(inputs, attrs):
            return NotImplemented
        taken = {name: inputs[name] for name in self.binding.taken if name in inputs}
        upstream = upstream if isinstance(upstream, dict) else {self.binding.equation.outputs[0]: upstream}
        return self.evaluate(self.binding, taken, attrs, grads, upstream, dtype)


def by_output(found, outputs):
    """{output: result} of what a function returned: a tuple in the order of the outputs, a dict, or the only result,
    which may be a list of numbers."""
    if hasattr(found, "keys"):
        if missing := [name for name in outputs if name not in found]:
            raise ValueError(f"returned {', '.join(map(str, found))}: need {', '.join(missing)}")
        return {name: found[name] for name in outputs}
    several = isinstance(found, tuple) or (isinstance(found, list) and len(outputs) > 1)
    results = found if several else (found,)
    if len(results) != len(outputs):
        raise ValueError(f"returned {len(results)} results: need {len(outputs)} ({', '.join(outputs)})")
    return dict(zip(outputs, results))
