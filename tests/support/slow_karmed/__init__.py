"""K-armed algorithms written from their papers with plain loops, one replicate at a time.

They keep only win counts (and what the paper keeps besides) and compute every bound afresh each round.
"""
