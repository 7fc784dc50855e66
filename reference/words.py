"""Numbers, tensors and settings as a person reads them."""

import numpy as np

SETTINGS = {
    ("temperature_squared", False): "the factor T^2 is missing",
    ("temperature_squared", True): "a factor T^2 is there",
    ("rows", "real"): "padding does not count",
    ("rows", "all"): "rows of padding are counted",
    ("rows", "labelled"): "only rows with a label count",
    ("keys", "real"): "padding is no part of a row",
    ("keys", "all"): "padding is counted as a part of a row",
    ("divisor", "sequence"): "each sequence is divided by its own number of rows",
    ("divisor", "row"): "one mean over the rows that count of the whole batch",
    ("divisor", "element"): "the mean runs over the entries of a row, too",
    ("divisor", "none"): "a sum, no mean",
    ("constant", "kl"): "the teacher's entropy is taken off",
    ("constant", "cross-entropy"): "the teacher's entropy is left in: another value, the same gradient",
}


def setting(name, value):
    """What a setting of a convention means: `divisor=row (one mean over ...)`."""
    plain = not isinstance(value, (float, np.floating))
    words = SETTINGS.get((name, value)) if plain else f"{number(value)} is added to the divisor" * (name == "epsilon")
    return f"{name}={value if plain else number(value)}" + f" ({words})" * bool(words)


def tensor(name, outputs):
    """d(student_logits) for the gradient dstudent_logits."""
    return name if name in outputs else f"d({name.removeprefix('d')})"


def number(x, digits=4):
    return f"{float(x):.{digits}g}"


def pair(got, want):
    """Two numbers, with as many digits as tell them apart."""
    shown = [(number(got, digits), number(want, digits)) for digits in (4, 6, 9, 17)]
    return next((p for p in shown if p[0] != p[1]), shown[0])


def times(error):
    """An error in units of what is allowed."""
    return f"{error:,.0f} x allowed" if 10 <= error < 1e7 else f"{error:.2g} x allowed"


def percent(share):
    """A share, never rounded to all or to nothing."""
    return f"{min(99, max(1, round(100 * share))) if 0 < share < 1 else round(100 * share)} %"


def many(n, one, several=None):
    """1 case, 2 cases."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def listed(names, room=6):
    """The first few names, and how many more."""
    names = list(names)
    return ", ".join(names[:room]) + f" and {len(names) - room} more" * (len(names) > room)
