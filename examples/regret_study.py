# /// script
# requires-python = ">=3.11"
# dependencies = ["duelenv"]
#
# [tool.uv.sources]
# duelenv = { path = "..", editable = true }
# ///
"""A regret study in twenty lines: four agents, 32 seeds, a table with verdicts, and a figure.

Run it: `python examples/regret_study.py [SEEDS]`. Out come the tables of `duelenv run` and `regret_study.png`:
cumulative regret of probability against rounds, the mean over seeds with its 95 % interval.
"""

import sys

import duelenv


def main(seeds=32) -> None:
    """Play the study; all seeds of an agent are one array, so that one process will do."""
    run = duelenv.experiments.run(
        name="regret_study",
        env={"id": "FeatureDuel", "dim": 5, "num_candidates": 10, "horizon": 300},
        agents=["passive", "thompson", "maxinp", "colstim"],
        evaluate_every=20,
        seeds=seeds,
        jobs=1,
    )
    print(run)
    run.plot("regret_average", x="step").savefig("regret_study.png", dpi=150)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
