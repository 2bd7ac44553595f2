"""Faults on purpose: runs are killed, their files damaged and their writes refused, and every label is counted.

`bench` says what is tried, `lab` does it and judges, `world` is the small run with an oracle that keeps its own books,
`record` reads those books, `processes` starts and kills, `injection` damages files and makes calls fail.
"""
