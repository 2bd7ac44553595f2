"""The ground floor: errors, checks of values and random streams, which all other folders stand on.

It imports nothing of this project; `oracles/` may import it although it stands below the rest of `duelenv/`.
"""
