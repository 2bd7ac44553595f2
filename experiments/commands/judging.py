"""`duelenv judge CONFIG`: how far a run's judge can be talked round, by pairs whose better response is known."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from duelenv.experiments.config.loading import load
from duelenv.experiments.config.run_config import RunConfig
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable

if TYPE_CHECKING:
    from duelenv.oracles.judge.canaries import CanaryReport

__all__ = ["add_parser", "judge_canaries"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    judge = commands.add_parser(
        "judge",
        help="try a run's judge with canaries: is it right where that is plain, and can a response talk it round",
        description="Puts pairs whose better response is known to the judge of CONFIG, with and without instructions "
        "inside, and says how many verdicts these turned. Exit code 1 where it is not to be relied on.",
    )
    judge.add_argument("config", metavar="CONFIG", help="YAML file whose 'oracle' or 'evaluation_oracle' is a judge")
    judge.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings, such as oracle.model=NAME"
    )
    judge.set_defaults(run=_judge)


def judge_canaries(config: RunConfig) -> dict[str, CanaryReport]:
    """Try all judges of a config, by the key that they have in it; the budget's tokens and money hold here too.

    Raises:
        UserError: It has none, or a judge does not answer.
    """
    from duelenv.experiments.running.assembly import make_oracle
    from duelenv.oracles.judge import try_canaries
    from duelenv.oracles.services.home import Home
    from duelenv.oracles.services.spending import Limits, Purse

    keys = [key for key in ("oracle", "evaluation_oracle") if getattr(getattr(config, key), "name", None) == "judge"]
    if not keys:
        raise UserError(f"{config.name!r} has no judge: give one as 'oracle' or 'evaluation_oracle'")
    purse = Purse(Limits(tokens=config.budget.tokens, money=config.budget.money))
    return {key: try_canaries(make_oracle(config, key, Home(purse=purse))) for key in keys}


def _judge(arguments: argparse.Namespace) -> int:
    config = load(arguments.config, list(arguments.overrides))
    reports = judge_canaries(config)
    for key, report in reports.items():
        model = getattr(config, key).settings.get("model")
        print(f"{key}: {printable(str(model))}\n\n{report}\n")
    return 0 if all(report.robust for report in reports.values()) else 1
