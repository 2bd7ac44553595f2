"""Off-policy evaluation: what an agent's recommendations would be worth, from duels that another agent chose.

`log.DuelLog` holds the duels, `reading.read_log` reads them, `estimators.estimate` values a target policy by inverse
propensities, doubly robust and by a model, and `targets.replay` plays an agent on a log by rejection.
"""
