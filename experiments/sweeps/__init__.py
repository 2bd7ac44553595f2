"""Sweeps: grid and random search over settings, of which each trial is an agent of an ordinary run."""
