"""Crowds: many simulated annotators with habits and prices of their own, and when to ask the dearer of two oracles.

Not for estimating how able real annotators are; that is `duelenv.data.aggregation`, from what they said.
"""
