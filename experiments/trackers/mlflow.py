"""MLflow: one of its runs a cell, in an experiment of the run's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from duelenv.experiments.folder.locks import hold_cell
from duelenv.experiments.trackers.base import TrackedCell, needing, variable_set
from duelenv.ground import checks

__all__ = ["MLflow"]

#: By which a cell finds the run that an earlier start made.
_TAG: Final = "duelenv.cell"


class MLflow:
    """Logs figures by step, and the config's first level as parameters.

    Args:
        uri: Of a tracking server or a database, as MLflow takes it; the run folder if absent, in MLflow's own files.
        experiment: Its experiment; of the run's name if absent.
    """

    def __init__(self, uri: str | None = None, experiment: str | None = None) -> None:
        self.uri = None if uri is None else checks.text("'uri' of the tracker 'mlflow'", uri)
        self.experiment = (
            None if experiment is None else checks.text("'experiment' of the tracker 'mlflow'", experiment)
        )
        with needing("mlflow", "mlflow"):
            import mlflow
            from mlflow.entities import Metric, Param
        self._mlflow, self._metric, self._param = mlflow, Metric, Param

    def start(self, cell: TrackedCell, config: Mapping[str, Any]) -> None:
        # Cells that begin at the same time would make the experiment twice.
        with hold_cell(cell.folder / "start.lock", lambda: False):
            self._begin(cell, config)

    def _begin(self, cell: TrackedCell, config: Mapping[str, Any]) -> None:
        # Newer versions keep their store in files only where they are told to; a database would need more packages.
        with variable_set("MLFLOW_ALLOW_FILE_STORE", "true" if self.uri is None else None):
            self._client = self._mlflow.MlflowClient(self.uri or cell.folder.absolute().as_uri())
        name = self.experiment or cell.run
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        found = self._client.search_runs([experiment], f"tags.`{_TAG}` = '{cell.id}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._client.create_run(experiment, run_name=cell.name, tags={_TAG: cell.id}).info.run_id
        parameters = [self._param(key, str(value)[:_LONGEST]) for key, value in config.items()]
        self._client.log_batch(self._run, params=[*parameters, self._param("agent", cell.agent)])

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        now = int(self._mlflow.utils.time.get_current_time_millis())
        self._client.log_batch(
            self._run, metrics=[self._metric(name, value, now, step) for name, value in figures.items()]
        )

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


#: Characters of a parameter that every store takes.
_LONGEST: Final = 500
