"""The error function, for whatever kind of number comes: float, complex, or fifty digits."""

import numpy as np
import scipy.special


def erf(x):
    """2/sqrt(pi) integral_0^x exp(-t^2) dt."""
    x = np.asarray(x)
    return np.frompyfunc(lambda number: number.erf(), 1, 1)(x) if x.dtype == object else scipy.special.erf(x)
