"""Sums, and moves that leave every number as it is: their pullback moves the gradient back."""

from tinydistill.backend import add_at, xp_of
from tinydistill.tensor import op


@op
def sum(x, *, axis=None, keepdims=False):
    def pullback(dy):
        if axis is not None and not keepdims:
            dy = xp_of(dy).expand_dims(dy, axis)
        return (xp_of(x).broadcast_to(dy, x.shape).copy(),)
    return x.sum(axis=axis, keepdims=keepdims), pullback


def mean(x, *, axis=None, keepdims=False):
    """sum / number of summed elements."""
    total = sum(x, axis=axis, keepdims=keepdims)
    size = 1
    for count in total.shape:
        size *= count
    elements = 1
    for count in x.shape:
        elements *= count
    return total * (size / elements)


@op
def reshape(x, *, shape):
    return x.reshape(shape), lambda dy: (dy.reshape(x.shape),)


@op
def transpose(x, *, axes):
    back = sorted(range(len(axes)), key=axes.__getitem__)
    return x.transpose(axes), lambda dy: (dy.transpose(back),)


@op
def take(x, *, index):
    """x[index], where an index array may name the same place several times: each naming gets its gradient."""
    def pullback(dy):
        dx = xp_of(x).zeros_like(x)
        add_at(dx, index, dy)
        return (dx,)
    return x[index], pullback


@op
def concatenate(*parts, axis=0):
    def pullback(dy):
        ends, place = [], 0
        for part in parts[:-1]:
            place += part.shape[axis]
            ends.append(place)
        return xp_of(dy).split(dy, ends, axis=axis)
    return xp_of(parts[0]).concatenate(parts, axis=axis), pullback
