"""SLURM: workers of Dask that are jobs, submitted here, looked after while they wait, and cancelled with the run."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Final

from duelenv.experiments.running.backends.dask_cluster import CONFIG, imported
from duelenv.experiments.running.backends.local import thread_variables
from duelenv.experiments.running.backends.watched import Watched
from duelenv.ground import checks
from duelenv.ground.errors import UserError

__all__ = ["slurm_backend"]

_MEMORY: Final = "4GB"
#: A day: queues of a cluster are long, and a run that waits costs nothing.
_QUEUE_SECONDS: Final = 86_400.0
#: Seconds between two looks at the queue, which is everybody's.
_LOOK_SECONDS: Final = 10.0
#: Seconds that a command of SLURM may take to answer.
_PATIENCE: Final = 60.0
#: Characters of what a command says that go into a sentence.
_MOST_WORDS: Final = 300


@contextmanager
def slurm_backend(
    jobs: int, threads: int, memory: str = _MEMORY, queue_seconds: float = _QUEUE_SECONDS, **settings: Any
) -> Iterator[Executor]:
    """Give workers of Dask that are jobs of SLURM, one each, submitted here and cancelled with the run.

    The run folder has to be on a file system that all of them see, with locks (`flock`). A job that ends, since it was
    cancelled or its time was over, is not submitted again: the others go on with its cells. Where none is left, or none
    is accepted, or none begins in time, what is not played yet ends with `NoWorkers`.

    Args:
        jobs: Jobs to submit.
        threads: Cores and threads of each.
        memory: Of each, as Dask writes it.
        queue_seconds: Longest time without any worker, in the queue or while a job starts; a day if absent.
        **settings: Of `dask_jobqueue.SLURMCluster`: `queue`, `account`, `walltime`, `interface`,
            `job_extra_directives`, ...

    Raises:
        UserError: dask-jobqueue is missing or refuses a setting, or there is no `sbatch`.
    """
    jobqueue = imported("dask_jobqueue", "slurm")
    checks.number("'backend.queue_seconds'", queue_seconds, above=0.0)
    if shutil.which("sbatch") is None:
        raise UserError("There is no command 'sbatch' here: run where jobs of SLURM can be submitted")
    import dask
    from distributed import Client

    submitted = _Jobs(jobs, float(queue_seconds))
    exports = [f"export {name}={value}" for name, value in thread_variables(threads).items()]
    prologue = [*exports, *settings.pop("job_script_prologue", [])]
    with dask.config.set(CONFIG):
        try:
            cluster = jobqueue.SLURMCluster(
                job_cls=_job_class(submitted),
                cores=1,
                processes=1,
                job_cpu=threads,
                memory=memory,
                job_script_prologue=prologue,
                **{"silence_logs": "CRITICAL", **settings},
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"'backend' of SLURM is refused ({error}): correct its settings") from error
        with cluster, Client(cluster) as client:
            cluster.scale(jobs=jobs)

            def look() -> str | None:
                return submitted.hopeless(working=len(cluster.scheduler_info["workers"]))

            executor = Watched(client.get_executor(pure=False), look, _LOOK_SECONDS)
            try:
                yield executor
            finally:
                executor.shutdown(wait=False)


class _Jobs:
    """The jobs of a run: which were accepted, which were not, and how long nobody has worked.

    Args:
        wanted: How many are submitted.
        patience: Longest time without a worker, in seconds.
        clock: Seconds that only grow.
    """

    def __init__(self, wanted: int, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.accepted: list[str] = []
        self.rejected: list[str] = []
        self._wanted, self._patience, self._clock = wanted, patience, clock
        self._since = clock()
        self._gone = self._warned = False

    def hopeless(self, working: int) -> str | None:
        """Say why there will be no worker; None where there is one, or may be.

        Args:
            working: Workers that are there.
        """
        whole = len(self.accepted) + len(self.rejected) == self._wanted
        if whole and self.accepted and self.rejected and not self._warned:
            self._warned = True
            few = f"SLURM took {len(self.accepted)} of {self._wanted} jobs, and the run goes on with these"
            warnings.warn(f"{few}: {self.rejected[0]}", stacklevel=2)
        if working:
            self._since, self._gone = self._clock(), False
            return None
        if len(self.rejected) == self._wanted:
            return f"SLURM took no job: {self.rejected[0]}"
        waited = self._clock() - self._since
        queue = _queue() if self.accepted else None
        left = None if queue is None else {job: queue[job] for job in self.accepted if job in queue}
        if whole and left == {}:
            if self._gone:  # twice, since a worker may just have come and gone
                return f"{self._named()} ended{self._told()}; see what they printed, and start the run again"
            self._gone = True
            return None
        self._gone = False
        if waited <= self._patience:
            return None
        states = "" if not left else f" ('squeue' says {'; '.join(f'{job} {state}' for job, state in left.items())})"
        return (
            f"no worker came from {self._named()} in {self._patience:g} s{states}; give more "
            "'backend.queue_seconds', or another 'backend.queue'"
        )

    def _named(self) -> str:
        if not self.accepted:
            return f"{self._wanted} jobs of SLURM that 'sbatch' did not yet take"
        return f"job{'s' if len(self.accepted) > 1 else ''} {', '.join(self.accepted)} of SLURM"

    def _told(self) -> str:
        """Say what accounting says of them, where a cluster has it."""
        said = _said(["sacct", "-n", "-X", "-P", "-j", ",".join(self.accepted), "-o", "JobID,State,ExitCode"])
        return "" if not said else f" ('sacct' says {'; '.join(' '.join(line.split('|')) for line in said)})"


def _queue() -> dict[str, str] | None:
    """State and reason of each job of this user, by its number; None where SLURM does not say."""
    said = _said(["squeue", "--noheader", "--me", "--format=%i %T %r"])
    return None if said is None else dict(line.partition(" ")[::2] for line in said)


def _said(command: Sequence[str]) -> list[str] | None:
    """Lines that a command prints; None where it is missing, fails or does not end."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in ended.stdout.splitlines() if line.strip()]


def _job_class(submitted: _Jobs) -> Any:
    """Make a job of dask-jobqueue that notes whether SLURM took it, and does not raise where nobody would hear it."""
    from dask_jobqueue.slurm import SLURMJob
    from distributed.deploy.spec import ProcessInterface

    class NotedJob(SLURMJob):
        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                submitted.rejected.append(" ".join(str(error).split()))
                await ProcessInterface.start(self)
            else:
                submitted.accepted.append(str(self.job_id))

        async def _submit_job(self, script_filename: str) -> str:
            command = [*shlex.split(self.submit_command), script_filename]
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            out, error = (text.decode(errors="replace") for text in await process.communicate())
            if process.returncode != 0:
                words = " ".join((error or out).split())[:_MOST_WORDS]
                raise RuntimeError(f"{self.submit_command!r} exited with {process.returncode} and said {words!r}")
            return out

    return NotedJob
