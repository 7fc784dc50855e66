"""The equations as printed, with gradients by hand: explicit sums in NumPy, nothing of tinydistill, nothing clever.

And the kit that checks other implementations against them: README.md.

Installed as `tinydistill_reference`. Every forward is holomorphic where the mathematics is (a maximum looks at the real
part), so its derivative can be read off by a complex step: f'(x) = Im f(x + ih) / h.
"""
