"""Experiments: configs, runs that can be interrupted, results, figures, reports, and the `duelenv` command.

Not for environments, oracles or agents. Importing this package loads nothing but NumPy and Gymnasium.
"""
