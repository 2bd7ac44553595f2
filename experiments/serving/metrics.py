"""Counts of a server as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Final

__all__ = ["Metrics"]

_HELP: Final = {
    "duelenv_requests_total": "Requests answered, by HTTP status.",
    "duelenv_request_seconds_total": "Seconds that all requests took together.",
    "duelenv_duels_total": "Duels in requests.",
    "duelenv_record_hits_total": "Duels answered from the record.",
    "duelenv_oracle_duels_total": "Duels put to the oracle.",
    "duelenv_oracle_seconds_total": "Seconds that the oracle took.",
    "duelenv_oracle_errors_total": "Batches that the oracle refused, left unanswered or failed at.",
    "process_cpu_seconds_total": "Processor seconds of the server and its oracle.",
}


class Metrics:
    """Counters that only grow."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, name: str, value: float = 1, label: str = "") -> None:
        """Add to a counter.

        Args:
            name: One of the names above.
            value: How much.
            label: `name="value"`, or none.
        """
        with self._lock:
            self._counts[name, label] += value  # type: ignore[assignment]

    def __getitem__(self, name: str) -> float:
        with self._lock:
            return sum(value for (own, _), value in self._counts.items() if own == name)

    def text(self) -> str:
        """Write all counters."""
        with self._lock:
            counts: dict[tuple[str, str], float] = dict(self._counts)
        counts["process_cpu_seconds_total", ""] = time.process_time()
        lines = []
        for name, meaning in _HELP.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} counter"]
            found = sorted((label, value) for (own, label), value in counts.items() if own == name) or [("", 0)]
            lines += [f"{name}{{{label}}} {value:.12g}" if label else f"{name} {value:.12g}" for label, value in found]
        return "\n".join(lines) + "\n"
