"""Beliefs: what an agent holds about the hidden utility, with a joint posterior over the candidates.

Light: `base`, `linear_logistic` and `laplace` need no torch; `ensemble` needs torch and is imported by whoever uses it.
"""
