"""The small world of `duelenv bench faults`: a pool of texts that are hard to keep, and an oracle with a record.

No torch, so that a process starts fast. Files are written into a folder; nothing is run here.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["RECORD", "make_world"]

#: The file that the oracle writes its record to, as an environment variable names it.
RECORD = "DUELENV_FAULTS_RECORD"

#: What is hard about texts: separators that some take for ends of lines, control characters, quotes, and directions.
_NASTY = (
    *(
        "line\u2028separator",
        "paragraph\u2029separator",
        "next\u0085line",
        "two\nlines\r\nor three",
        "a nul \x00 inside",
    ),
    *(
        'a lone " quote',
        "another's",
        "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u202eright to left\u202c",
    ),
    *("\u2028", '{"half": [1,', "\\u0000 \\n \\", "\x1e\x1c\x0b\x0c", "\u05d0\u200f\u05d1\ufeff", "e\u0301 or \u00e9"),
)

#: The user's own module: an oracle that is paid and keeps a record of its own.
_MODULE = '''"""An oracle that is paid: a plain callable, sure of its taste, slow, and with a record of its own."""

import hashlib
import json
import os
import time

import numpy as np

from duelenv.oracles import register

LIFE = os.urandom(8).hex()  # of this process


def write(word, digests):
    line = " ".join([word, LIFE, str(os.getpid()), str(os.getsid(0)), repr(time.monotonic()), *digests]) + "\\n"
    stream = os.open(os.environ["DUELENV_FAULTS_RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(stream, line.encode("ascii"))
    finally:
        os.close(stream)


def paid(milliseconds):
    def ask(prompts, first, second):
        duels = zip(prompts, first, second, strict=True)
        digests = [hashlib.sha256(json.dumps(duel).encode("ascii")).hexdigest()[:24] for duel in duels]
        write("asked", digests)
        time.sleep(milliseconds / 1000)
        preferences = np.array([int(digest[:8], 16) / 0xFFFFFFFF for digest in digests])
        write("answered", digests)
        return preferences

    return ask


register("paid", paid)
'''


def make_world(folder: Path, horizon: int, milliseconds: float, *, nasty: bool) -> Path:
    """Write the table, the module with the oracle, and the config; return the config's path.

    Args:
        folder: Where.
        horizon: Rounds of each of the two agents, four labels each.
        milliseconds: What the oracle takes for a batch.
        nasty: Whether the texts hold what is hard about texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import yaml

    words = _NASTY if nasty else tuple(f"text {number}" for number in range(len(_NASTY)))
    count = len(words)
    rows = [
        (f"{words[number]} {number}", f"{slot} {words[(number + 4 * slot + 1) % count]}", (3 * slot + number) % 5)
        for number in range(count)
        for slot in range(5)
    ]
    names = ("prompt", "response", "score")
    pq.write_table(
        pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)}),
        folder / "pool.parquet",
    )
    (folder / "paid.py").write_text(_MODULE, encoding="utf-8")
    config = {
        "name": "faults",
        "env": {"id": "PoolDuel", "horizon": horizon, "batch": 2, "dim": 4, "num_candidates": 4},
        "data": "pool.parquet",
        "oracle": {"name": "paid", "milliseconds": milliseconds},
        "agents": ["passive", "thompson"],
        "seeds": 2,
        "evaluate_every": 10,
        "modules": ["paid.py"],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder / "config.yaml"
