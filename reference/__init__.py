"""The equations as printed: explicit sums in NumPy float64, nothing of tinydistill, nothing clever.

Installed as `tinydistill_reference`. Every function is holomorphic where the mathematics is (a maximum looks at the
real part), so its derivative can be read off by a complex step: f'(x) = Im f(x + ih) / h.
"""
