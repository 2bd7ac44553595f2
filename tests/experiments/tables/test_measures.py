"""What agents ended with in metrics that nobody is compared by."""

import numpy as np
from made_up_runs import add_column, numeric_run

from duelenv.experiments.results.measurements import Results
from duelenv.experiments.tables.measures import COSTS, measures_table


def test_means_are_of_the_end_and_metrics_that_are_nowhere_above_zero_are_left_out(tmp_path):
    directory = numeric_run(tmp_path)
    add_column(directory, "belief_calibration", [*(9 * [np.nan]), *(3 * [3.0, 2.0, 1.5])], from_agent=True)
    results = Results(directory)
    beliefs = measures_table(results, "beliefs", ("belief_calibration", "belief_log_loss"), "Note.")
    assert beliefs.header() == ["agent", "error of the belief in its own deviations"]
    assert beliefs.cells() == [["real", "1.500 ± 0.000"]]  # passive holds no belief
    assert "Note. Means at the end, over the seeds that have a value, 3 at most; ±" in beliefs.caption
    costs = measures_table(results, "costs", COSTS, "Note.")
    assert costs.metrics == ("queries", "seconds")  # no gradient step was taken
    assert costs.cells()[0] == ["passive", "2", "0.1 s"]
    assert "±" not in costs.caption
    assert costs.csv().splitlines()[0].startswith("agent,queries_mean,queries_low")
    assert measures_table(results, "none", ("kl",), "Note.") is None
