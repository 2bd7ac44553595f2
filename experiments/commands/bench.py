"""`duelenv bench`: what worlds, beliefs, policies, ledgers and oracles cost, and faults on purpose."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Any

from duelenv.ground.errors import UserError

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    bench = commands.add_parser(
        "bench",
        help="speed of worlds, beliefs and policies, memory of a round, regret of bandit agents, cost of the ledger "
        "and of oracles, or faults on purpose",
        description="Row-steps per second of the numeric worlds; or, with 'regret' before names of agents, regret and "
        "speed of the bandit agents on fixed worlds; with 'belief', what an update and a sample of a belief cost; with "
        "'alignment', what drawing responses and a round of alignment cost beside transformers and TRL; with 'gpu', "
        "the same at the size of real models on one card; with 'memory', the most memory of a round beside what it "
        "takes on paper; with 'ledger', what writing every label down costs a round; with "
        "'sweeps', how many cells a minute each backend plays; with "
        "'oracles', what wrappers, the ledger and a server add to an oracle, or with --faults what becomes of answers "
        "when a server behaves badly; with "
        "'faults', what becomes of labels when processes die, files are damaged and disks refuse.",
    )
    bench.add_argument(
        "names",
        metavar="WORLD | regret AGENT | belief | alignment | gpu | memory | ledger | sweeps | oracles | faults",
        nargs="*",
        help="such as FeatureDuel, or: regret rucb; all if none",
    )
    bench.add_argument(
        "--matrix",
        metavar="FILE",
        help="regret: a .npy or .csv file; the K-armed agents play this matrix, and nothing else is measured",
    )
    bench.add_argument("--replicates", metavar="N", type=int, help="regret: replicates of each agent")
    bench.add_argument("--kills", metavar="N", type=int, help="faults: processes to kill (default: 300)")
    bench.add_argument("--seed", metavar="S", type=int, help="faults: of the moments, files and bits (default: 0)")
    bench.add_argument("--faults", action="store_true", help="oracles: a server that behaves badly, not the speed")
    bench.add_argument("--quick", action="store_true", help="regret, gpu: something small, to see that all works")
    bench.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.names[:1] == ["sweeps"]:
        from duelenv.experiments.bench.sweeps import backend_rates, rates_text

        print(rates_text(list(backend_rates(arguments.names[1:]))))
        return 0
    if arguments.names[:1] == ["oracles"]:
        return _bench_oracles(arguments)
    if arguments.faults:
        raise UserError("'--faults' is for servers that behave badly: write 'duelenv bench oracles --faults'")
    if arguments.names[:1] in (["faults"], ["ledger"]):
        return _bench_safety(arguments)
    if arguments.names[:1] == ["alignment"]:
        return _bench_alignment(arguments)
    if arguments.names[:1] == ["gpu"]:
        return _bench_gpu(arguments)
    if arguments.kills is not None or arguments.seed is not None:
        raise UserError("'--kills' and '--seed' are for faults: write 'duelenv bench faults'")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    if any(os.environ.get(name) != "1" for name in threads):
        # NumPy reads these when it is loaded, which it is by now: start again with one thread.
        command = [sys.executable, "-m", "duelenv.experiments.commands.cli", "bench", *_bench_words(arguments)]
        return subprocess.call(command, env=os.environ | dict.fromkeys(threads, "1"))
    if arguments.names[:1] == ["belief"]:
        return _bench_belief(arguments)
    if arguments.names[:1] == ["memory"]:
        return _bench_memory(arguments)
    if arguments.names[:1] == ["regret"]:
        from duelenv.experiments.bench.regret import bench_regret

        names = arguments.names[1:]
        for table in bench_regret(
            names, matrix=arguments.matrix, replicates=arguments.replicates, quick=arguments.quick
        ):
            print(f"{table}\n", flush=True)
        return 0
    if arguments.matrix is not None or arguments.replicates is not None or arguments.quick:
        raise UserError("'--matrix', '--replicates' and '--quick' are for agents: write 'duelenv bench regret'")
    from duelenv.experiments.bench.worlds import CANDIDATES, DIM, REPEATS, ROWS, bench, check_worlds

    check_worlds(arguments.names)  # before the table begins
    print(f"{ROWS} rows, {CANDIDATES} candidates, {DIM} features, one core; median of {REPEATS} (slowest, fastest)\n")
    print(f"{'world':<14}{'row-steps per second':>22}")
    for speed in bench(arguments.names):
        spread = f"({speed.slowest:,.0f}, {speed.fastest:,.0f})"
        print(f"{speed.world:<14}{speed.row_steps_per_second:>22,.0f}   {spread}")
    return 0


def _bench_belief(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.bench import belief as bench

    _refuse_others(arguments)
    print(
        f"{bench.ROWS} duels a round, {bench.CANDIDATES} candidates, {bench.LABELS} labels so far, as many draws as "
        f"heads, one core; median of {bench.REPEATS}, beside it the multiple of the first\n"
    )
    print(bench.belief_table(list(bench.bench_belief())))
    return 0


def _bench_alignment(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.bench import alignment as bench

    _refuse_others(arguments)
    race = bench.DRAWING
    print(
        f"K responses to each of {race.batch} prompts, {race.prompt} + {race.response} tokens, {race.threads} threads, "
        f"seconds; median of {race.repeats}\n"
    )
    print(bench.drawing_table(list(bench.bench_drawing())), flush=True)
    race = bench.ROUNDS
    print(
        f"\na round of {race.batch} prompts, {race.prompt} + {race.response} tokens, one thread, processor seconds; "
        f"median of {race.repeats}\n"
    )
    print(bench.round_table(bench.bench_rounds()))
    return 0


def _bench_gpu(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.bench import gpu as bench

    if len(arguments.names) > 1 or arguments.matrix is not None or arguments.replicates is not None:
        raise UserError("'duelenv bench gpu' takes --quick alone: leave the others out")
    plan, device = (bench.QUICK, "cpu") if arguments.quick else (bench.FULL, "cuda")
    lines = []
    for line in bench.bench_gpu(plan, device):
        lines.append(line)
        print(f"measured: {line.what}", file=sys.stderr, flush=True)
    print(bench.gpu_table(lines, plan, device))
    return 0


def _bench_memory(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.bench import memory as bench

    _refuse_others(arguments)
    print(
        f"GPT-NeoX of {bench.LAYERS} x {bench.HIDDEN} in float32, {bench.ROWS} prompts a round, responses of "
        f"{bench.TOKENS} tokens; above the state without a model, each row in a process of its own\n"
    )
    print(bench.memory_table(list(bench.bench_memory())))
    return 0


def _refuse_others(arguments: argparse.Namespace) -> None:
    """Refuse what a bench that only has a name cannot take."""
    (name, *rest) = arguments.names
    if rest or arguments.matrix is not None or arguments.replicates is not None or arguments.quick:
        raise UserError(f"'duelenv bench {name}' takes no world, agent or option of the other benches: leave it out")


def _bench_safety(arguments: argparse.Namespace) -> int:
    """Measure what keeps labels safe: its cost, and whether it does."""
    _refuse_others(arguments)
    name = arguments.names[0]
    if name == "ledger":
        from duelenv.experiments.bench.ledger import bench_ledger

        if arguments.kills is not None or arguments.seed is not None:
            raise UserError("'--kills' and '--seed' are for faults: write 'duelenv bench faults'")
        print(bench_ledger())
        return 0
    from duelenv.experiments.faults.bench import bench_faults, fault_table

    def show(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    lines = list(
        bench_faults(
            kills=300 if arguments.kills is None else arguments.kills,
            seed=arguments.seed or 0,
            note=lambda text: print(f"\n{text}", file=sys.stderr, flush=True),
            progress=show,
        )
    )
    show("")
    print(fault_table(lines))
    return int(any(line.tally.wrong or line.tally.doubled or line.tally.lost or line.tally.invented for line in lines))


def _bench_oracles(arguments: argparse.Namespace) -> int:
    _refuse_others(arguments)
    if arguments.kills is not None or arguments.seed is not None:
        raise UserError("'--kills' and '--seed' are for faults of processes: write 'duelenv bench faults'")
    if arguments.faults:
        from duelenv.experiments.bench.service_faults import service_fault_table, try_faults

        lines = list(try_faults())
        print(service_fault_table(lines))
        return int(not all(line.survived for line in lines))
    from duelenv.experiments.bench.oracles import bench_oracles

    for table in bench_oracles():
        print(f"{table}\n", flush=True)
    return 0


def _bench_words(arguments: argparse.Namespace) -> list[str]:
    """Write the words of a bench command, once more."""
    words = list(arguments.names)
    for option in ("matrix", "replicates"):
        value = getattr(arguments, option)
        words += [] if value is None else [f"--{option}", str(value)]
    return [*words, "--quick"] if arguments.quick else words
