"""Comparisons as tables: statistics over seeds, groups, gains, regret. Draws nothing."""
