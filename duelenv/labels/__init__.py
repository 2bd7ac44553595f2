"""The room of labels: one way from a request to the agent, for every world, source and disturbance.

A label is asked for once (`path`, with `duelenv.oracles.sources` for sources that answer later), decided by one coin
(`coins`), disturbed on purpose by stages (`stage`, `pipeline`), and told once: with its own step, or in `info["late"]`
of a later one as `Arrivals` with what was shown and played (`arrivals`, `open_rounds`). All of it can be written down
(`ledger`, `ledger_file`). Nothing here knows a world or an agent, nor any particular disturbance: those are in
`duelenv.disturbances`.
"""

from duelenv.labels.arrivals import Arrivals
from duelenv.labels.ledger import Ledger
from duelenv.labels.stage import Clock, Passing, Stage, make_stage, register_stage, stage_names

__all__ = ["Arrivals", "Clock", "Ledger", "Passing", "Stage", "make_stage", "register_stage", "stage_names"]
