"""Learning-rate schedules: a factor of the peak rate by step, where step 0 is the first update."""


def linear(step, steps, warmup):
    """Up from 0 over `warmup` steps, then straight down to 0 at `steps`.

    Equation: s/w for s < w, then (S - s)/(S - w). With a warm-up the first update has rate 0, as in the published codes.

    >>> [round(linear(s, steps=6, warmup=2), 2) for s in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """
    return step / warmup if step < warmup else (steps - step) / (steps - warmup)
