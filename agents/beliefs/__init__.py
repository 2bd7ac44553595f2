"""Beliefs: what an agent holds about the hidden utility, with a joint posterior over the candidates.

Light: `base` and `linear_logistic` need NumPy only; `ensemble` needs torch and is imported by whoever uses it.
"""
