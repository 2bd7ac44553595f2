"""Tables of recorded responses and preferences, read from files; not for the logs of our own runs.

`load_responses` reads a table of responses with scores (prompt, response, score) into a `Pool`: P prompts with K
responses each and a utility for every one of them. `load_pairs` reads two responses a row and which was preferred into
`Pairs`, which can stand as a pool of two responses a prompt. `load_pool` looks at the columns and takes either.
`aggregate` makes one label of what several annotators said of a pair. What is guessed is announced; `docs/tables.md`
has the forms. The whole table is held in memory.
"""

from duelenv.data.aggregation import Aggregated, aggregate
from duelenv.data.faults import OnFault
from duelenv.data.loading import load_pool
from duelenv.data.pairs import load_pairs
from duelenv.data.pool import Pairs, Pool
from duelenv.data.responses import load_responses
from duelenv.data.scores import Transform
from duelenv.data.tables import Table, read_table

__all__ = [
    "Aggregated",
    "OnFault",
    "Pairs",
    "Pool",
    "Table",
    "Transform",
    "aggregate",
    "load_pairs",
    "load_pool",
    "load_responses",
    "read_table",
]
