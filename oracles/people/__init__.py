"""People who compare responses: the desk where questions lie and answers are kept, and the source that asks there.

The page on which people answer is `duelenv.experiments.labelling`; here is nothing of it, and nothing but SQLite.
"""

from duelenv.oracles.people.desk import Desk, Overlap, Question
from duelenv.oracles.people.source import NobodyAnswers, People
from duelenv.oracles.people.verdicts import Verdict

__all__ = ["Desk", "NobodyAnswers", "Overlap", "People", "Question", "Verdict"]
