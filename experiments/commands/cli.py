"""The `duelenv` command: parses and prints, no more.

Whatever goes wrong is one sentence. Exit codes: 0; 1 where code that the run calls has failed; 2 for a user's mistake
and for what the disk refuses; 3 where the labels or the money of the whole run are spent; 130 for Ctrl-C, 143 for
SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from duelenv.experiments.commands import judging
from duelenv.experiments.config.loading import load, parse_yaml, read_study_file, suites
from duelenv.experiments.config.run_config import EXECUTION_KEYS, RunConfig
from duelenv.experiments.crowds import command as crowds
from duelenv.experiments.folder.layout import RunFolder
from duelenv.experiments.labelling import command as labelling
from duelenv.experiments.offline import command as offline
from duelenv.experiments.results.spending import spending_of
from duelenv.experiments.serving.command import add_parser as add_serve_parser
from duelenv.experiments.sweeps import command as sweeps
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable, warn_printably
from duelenv.labels.ledger import Counts

if TYPE_CHECKING:
    from duelenv.experiments.results.measurements import Results

__all__ = ["command", "main"]

#: Of what raises no other, and of Ctrl-C outside a run.
_MISTAKE, _INTERRUPTED = 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments without the program's name; those of the process if absent.

    Returns:
        Exit code, see above.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    # argparse takes no more positional arguments after an option: `run demo --jobs 2 seeds=4`.
    several = next((name for name in ("overrides", "names") if hasattr(arguments, name)), None)
    if rest and (several is None or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest and several is not None:
        setattr(arguments, several, [*getattr(arguments, several), *rest])
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has seen enough. What is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as error:
        print(file=sys.stderr)
        return _say(str(error) or "Interrupted.", getattr(error, "exit_code", _INTERRUPTED))
    except OSError as error:
        return _say(f"the system refuses ({error}): correct that and run the same command again")
    except Exception as error:
        if not hasattr(error, "exit_code") and not isinstance(error, UserError):
            raise  # a mistake of ours; `command` prints its traceback
        return _say(str(error), getattr(error, "exit_code", _MISTAKE))


def _print(text: str) -> None:
    """Print what a command found, in which there may be anybody's names and texts."""
    print(printable(text, newlines=True))


def _say(text: str, code: int = _MISTAKE) -> int:
    """Say in one line what went wrong, and return the exit code."""
    print(f"duelenv: {printable(' '.join(text.split()))}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="duelenv",
        description="Language-model alignment as a contextual dueling bandit: run, compare and look.",
    )
    parser.add_argument("--version", action="version", version=f"duelenv {importlib.metadata.version('duelenv')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="agents, oracles, worlds and suites")
    listing.set_defaults(run=_list)

    run = commands.add_parser(
        "run",
        help="run a config and write a report; the same command continues an interrupted run",
        description="Runs CONFIG, a YAML file or the name of a suite, and writes results, figures and report.html.",
    )
    run.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a suite (see 'duelenv list')")
    run.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="settings, such as seeds=4 env.horizon=20 data=FILE",
    )
    run.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        help="run directory (default: runs/NAME; runs/NAME-HASH where key=value changes what is computed)",
    )
    run.add_argument(
        "--answers",
        metavar="RUN_DIR_OR_FILE",
        type=Path,
        help="begin with the answers of another run, or of an export of its labels: they are not asked again",
    )
    run.add_argument(
        "--dry",
        action="store_true",
        help="say what it will ask, cost and take in memory, disk and time, by a short probe; ask and write nothing",
    )
    run.add_argument("--jobs", metavar="N", help="cells that run at the same time (default: one per core)")
    run.add_argument(
        "--only", metavar="CELL", action="append", help="play this cell alone, named as its folder; may come again"
    )
    run.set_defaults(run=_run)

    report = commands.add_parser("report", help="table, figures and report.html of finished cells, again")
    report.add_argument("directories", metavar="RUN_DIR", nargs="+", type=Path)
    report.set_defaults(run=_report)

    labels = commands.add_parser(
        "labels",
        help="what a run asked and was told; exports labels and takes in others",
        description="Counts what the ledgers of RUN_DIR hold, finished or not, and prints its last duels.",
    )
    labels.add_argument("directory", metavar="RUN_DIR", type=Path)
    labels.add_argument("--agent", metavar="LABEL", help="only of this agent")
    labels.add_argument("--seed", metavar="N", type=int, help="only of this seed")
    labels.add_argument("--last", metavar="N", type=int, default=3, help="duels to print (default: 3)")
    labels.add_argument("--export", metavar="FILE", type=Path, help="write the duels to .parquet, .jsonl or .csv")
    labels.add_argument(
        "--pairs", action="store_true", help="export prompt, chosen, rejected, margin and tie instead of duels"
    )
    labels.add_argument(
        "--trl",
        action="store_true",
        help="export prompt, chosen and rejected alone, without ties, as TRL's trainers read them",
    )
    labels.add_argument(
        "--import",
        metavar="FILE",
        type=Path,
        dest="taken",
        help="take in answers: an export gives back what was asked, other labels answer open questions of equal texts",
    )
    labels.set_defaults(run=_labels)

    export = commands.add_parser(
        "export",
        help="the model that an agent trained in a run, as a folder that transformers loads",
        description="Copies the model of a finished cell, with tokenizer, generation config and model card.",
    )
    export.add_argument("directory", metavar="RUN_DIR", type=Path)
    export.add_argument("agent", metavar="AGENT", help="its label in the run")
    export.add_argument("seed", metavar="SEED", type=int)
    export.add_argument("target", metavar="DIR", type=Path, help="made; must not exist, or be empty")
    export.add_argument("--merge", action="store_true", help="of an adapter: the base model with it merged in")
    export.set_defaults(run=_export)

    labelling.add_parser(commands)

    pairs = commands.add_parser(
        "pairs",
        help="what a table of preferences holds, how well it can be predicted, and what to do with it",
        description="Reads FILE, says how it was read, and how well the longer response, a belief and an oracle "
        "predict the pairs of prompts that are held out.",
    )
    pairs.add_argument("file", metavar="FILE", help="a table with two responses a row, or with ranked ones in a list")
    pairs.add_argument(
        "overrides",
        metavar="key=value",
        nargs="*",
        default=[],
        help="how to read it, such as prompt=question label=vote; test_share, limit; oracle=length oracle.path=DIR",
    )
    pairs.add_argument("--export", metavar="FILE", type=Path, help="write prompt, first, second and label")
    pairs.set_defaults(run=_pairs)

    offline.add_parser(commands)

    floor = commands.add_parser(
        "floor",
        help="the least time and memory that a round takes with a model and a card, from sizes alone",
        description="Computes from the sizes of a model and the speed of a card what one round takes at least, and "
        "what bounds it. Nothing is run.",
    )
    floor.add_argument("size", metavar="SIZE_OR_DIR", help="1B, 8B or 70B, or a folder with a config.json")
    floor.add_argument("--prompts", metavar="N", default="64", help="prompts a round (default: 64)")
    floor.add_argument("--candidates", metavar="K", default="20", help="responses to each (default: 20)")
    floor.add_argument("--prompt-tokens", metavar="N", default="512", help="tokens of a prompt (default: 512)")
    floor.add_argument("--response-tokens", metavar="N", default="53", help="tokens of a response (default: 53)")
    floor.add_argument("--card", metavar="NAME", default="h200", help="h100, h200, a100 or rtx4090 (default: h200)")
    floor.add_argument("--gpus", metavar="N", default="1", help="how many (default: 1)")
    floor.add_argument("--tensor", metavar="N", default="1", help="GPUs that hold one sampling copy (default: 1)")
    floor.add_argument("--trainers", metavar="N", help="GPUs that train, besides those that sample")
    floor.add_argument(
        "--network", metavar="GB/S", default="50", help="of a GPU between nodes, each way (default: 50, 400 Gbit/s)"
    )
    floor.add_argument("--agent", metavar="NAME", default="passive", help="passive or thompson (default: passive)")
    floor.add_argument("--lora", metavar="RANK", nargs="?", const="16", help="train an adapter (rank if none: 16)")
    floor.add_argument(
        "--share-training", action="store_true", help="run a prompt once for both responses of a pair that is trained"
    )
    floor.add_argument(
        "--checkpointing", action="store_true", help="keep the inputs of layers alone, and run them again"
    )
    floor.add_argument("--published", action="store_true", help="the card's published figures, not what is reached")
    floor.set_defaults(run=_floor)

    add_serve_parser(commands)

    show = commands.add_parser("show", help="print one duel of a world as text")
    show.add_argument("target", metavar="WORLD_OR_CONFIG", help="such as FeatureDuel, or a config")
    show.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings, such as seeds=4 num_candidates=5"
    )
    show.set_defaults(run=_show)

    judging.add_parser(commands)

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
    crowds.add_parser(commands)
    sweeps.add_parser(commands)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    import duelenv
    from duelenv import agents, oracles
    from duelenv.labels import stage_names
    from duelenv.oracles.links import LINKS
    from duelenv.oracles.matrices import MATRICES
    from duelenv.oracles.utilities import UTILITIES

    sections = {
        "agents": sorted(agents.names()),
        "oracles": sorted(oracles.names()),
        "worlds": list(duelenv.WORLDS),
        "stages of labels (env.stages)": stage_names(),
        "matrices (env.matrix)": sorted(MATRICES),
        "utilities of features (env.utility)": sorted(UTILITIES),
        "links (env.link)": sorted(LINKS),
        "suites": [f"{name}  ({_about(path)})" for name, path in suites().items()],
    }
    for title, names in sections.items():
        print(title)
        for name in names:
            print(f"  {printable(name)}")
    return 0


def _about(path: Path) -> str:
    """The first sentence of a suite's leading comment."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").rstrip(".;:, ") if first.startswith("#") else "no description"


def _run(arguments: argparse.Namespace) -> int:
    study = read_study_file(arguments.config)
    if study is not None:
        from duelenv.experiments.efficiency.command import run_study

        jobs = None if arguments.jobs is None else checks.integer("'jobs'", parse_yaml(arguments.jobs), low=1)
        _print(run_study(study, arguments.overrides, arguments.output, jobs=jobs, dry=arguments.dry))
        return 0
    overrides = list(arguments.overrides)
    if arguments.jobs is not None:
        overrides.append(f"jobs={arguments.jobs}")
    config = load(arguments.config, overrides)
    directory = arguments.output or _default_directory(config, arguments.config, arguments.overrides)
    if arguments.dry:
        from duelenv.experiments.running.forecast import dry_run

        _print(dry_run(config, directory))
        return 0
    from duelenv.experiments.report.page import write_report
    from duelenv.experiments.results.measurements import Results
    from duelenv.experiments.running.runner import run

    run(config, directory, only=arguments.only, answers=arguments.answers)
    page = write_report(directory)
    _print_tables(Results(directory))
    spending = spending_of(RunFolder(directory), config)
    for kind, text in [] if spending is None else spending.lines():
        print(f"\nspent    {text} in {kind}", end="")
    print(f"\nreport   {printable(str(page))}")
    return 0


def _default_directory(config: RunConfig, source: str, overrides: Sequence[str]) -> Path:
    """`runs/NAME`, or for a run with overrides a directory of its own that the same command finds again."""
    execution = tuple(f"{key}{end}" for key in EXECUTION_KEYS for end in "=.")
    plain = all(override.startswith(execution) for override in overrides)
    return Path("runs") / (config.name if plain else f"{config.name}-{config.identity()[:8]}")


def _print_tables(results: Results) -> None:
    """Print the tables that answer the run's question; what else was made is in the report."""
    from duelenv.experiments.results.oracle_figures import oracle_lines
    from duelenv.experiments.tables.regret import tables

    for table in tables(results):
        if table.name == "regret":
            continue
        heading = f"{printable(table.title)}\n\n" if table.title else ""
        print(f"\n{heading}{table.text()}\n\n{textwrap.fill(printable(table.caption), 100)}")
    for number, line in enumerate(oracle_lines(RunFolder(results.directory))):
        print(("\n" if number == 0 else "") + printable(f"{line.oracle}: {line.value} {line.meaning}"))


def _report(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.identity import open_run
    from duelenv.experiments.report.page import write_report
    from duelenv.experiments.results.assembling import assemble
    from duelenv.experiments.results.measurements import Results

    for directory in arguments.directories:
        assemble(open_run(directory), directory)
        page = write_report(directory)
        _print_tables(Results(directory))
        print(f"\nreport   {printable(str(page))}")
    return 0


def _labels(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.config.identity import open_run
    from duelenv.experiments.results import labels

    config, folder = open_run(arguments.directory), RunFolder(arguments.directory)
    for form in ("pairs", "trl"):
        if getattr(arguments, form) and arguments.export is None:
            raise UserError(f"'--{form}' says what is exported: name the file with --export FILE")
    if arguments.pairs and arguments.trl:
        raise UserError("'--pairs' and '--trl' are two forms of an export: leave one of them out")
    if arguments.taken is not None:
        from duelenv.experiments.running.answers import take_in

        taken = take_in(folder, config, arguments.taken)
        waiting = f" ({taken.waiting:,} of them wait for their question)" if taken.waiting else ""
        print(
            f"{taken.new:,} answers taken in{waiting}, {taken.known:,} known before, {taken.strange:,} to no question "
            "here"
        )
        if taken.too_late:
            print(f"finished cells among theirs: {taken.too_late}, whose agents are not told of them any more")
    found = labels.counts_by_cell(folder, config)
    if not found:
        raise UserError(f"{str(arguments.directory)!r} has no ledger: {_why_no_ledger(folder, config)}")
    width = max(len("all"), *map(len, found))
    titles = ("asked", "answered", "open", "superseded", "evaluation", "asked again")
    print("cell".ljust(width) + "".join(title.rjust(13) for title in titles))
    lines = {printable(name): _numbers(held) for name, held in found.items()}
    for name, numbers in {**lines, "all": [sum(column) for column in zip(*lines.values(), strict=True)]}.items():
        print(name.ljust(width) + "".join(f"{number:13,}" for number in numbers))
    if arguments.export is None and arguments.last < 1:
        return 0
    table = labels.table_of(folder, config, arguments.agent, arguments.seed)
    for row in table.slice(max(0, len(table) - max(arguments.last, 0))).to_pylist():
        print(f"\n{printable(row['agent'])}, seed {row['seed']}, step {row['step']}, row {row['row']}")
        for name in ("prompt", "first", "second"):
            if row[name] is not None:
                print(f"  {name:<7}{printable(row[name])}")
        said = "" if row["win"] is None else f" (the source said {row['win']:.3g}, tie {row['tie']:.3g})"
        print(f"  {'label':<7}{'none' if row['label'] is None else format(row['label'], 'g')}{said}")
    if arguments.export is not None:
        written = table
        if arguments.pairs:
            written = labels.preferences_of(table)
        elif arguments.trl:
            chat = config.policy is not None and bool(config.policy.settings.get("chat_template", False))
            written = labels.trl_preferences_of(table, chat=chat)
        labels.write_table(written, arguments.export)
        print(f"\n{len(written):,} rows written to {printable(str(arguments.export))}")
    return 0


def _why_no_ledger(folder: RunFolder, config: RunConfig) -> str:
    from duelenv.experiments.config.cell import cells
    from duelenv.experiments.config.identity import is_of_version_0_1

    if is_of_version_0_1(folder):
        return "version 0.1 wrote it, which kept none"
    if not any(folder.cell(cell.name).owner.is_file() for cell in cells(config)):
        return f"its cells are not in {str(folder.cells)!r}: nothing was played yet, or they were removed"
    return "its world knows every answer, and label_log is off"


def _numbers(held: Counts) -> list[int]:
    return [
        held.asked,
        held.answered,
        held.asked - held.answered,
        held.superseded,
        held.evaluations,
        held.asked_again,
    ]


def _export(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.results.export import export_model

    export_model(arguments.directory, arguments.agent, arguments.seed, arguments.target, merge=arguments.merge)
    print(f"model   {printable(str(arguments.target))}")
    return 0


def _pairs(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.commands.pairs import about_pairs
    from duelenv.experiments.config.loading import apply_override

    raw: dict[str, Any] = {"data": {}}
    for override in arguments.overrides:
        apply_override(raw, override if override.partition("=")[0].split(".")[0] == "oracle" else f"data.{override}")
    oracle = {"name": raw["oracle"]} if isinstance(raw.get("oracle"), str) else raw.get("oracle")
    _print(about_pairs(arguments.file, oracle=oracle, export=arguments.export, **raw["data"]))
    return 0


def _floor(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.sizing.floor_table import floor_text
    from duelenv.experiments.sizing.floors import AGENTS, NODE, Machine, Round, card_named, floor_of
    from duelenv.experiments.sizing.shapes import shape_named

    def count(name: str, high: int | None = None) -> int:
        return checks.integer(f"--{name}", _number(getattr(arguments, name.replace("-", "_"))), low=1, high=high)

    work = Round(
        prompts=count("prompts"),
        candidates=count("candidates"),
        prompt_tokens=count("prompt-tokens"),
        response_tokens=count("response-tokens"),
        agent=checks.one_of("--agent", arguments.agent, AGENTS),
        lora=None if arguments.lora is None else count("lora"),
        share_training=arguments.share_training,
        checkpointing=arguments.checkpointing,
    )
    network = 1e9 * checks.number("--network", _number(arguments.network), above=0.0)
    card, tensor = card_named(arguments.card), count("tensor", NODE)
    machine = Machine(card, count("gpus"), tensor, network, arguments.published)
    trainers = None
    if arguments.trainers is not None:
        trainers = Machine(card, count("trainers"), 1, network, arguments.published)
    _print(floor_text(floor_of(shape_named(arguments.size), work, machine, trainers)))
    return 0


def _number(text: str) -> object:
    """What a word says as a number, or the word itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _show(arguments: argparse.Namespace) -> int:
    from duelenv.experiments.commands.show import show_config, show_duel

    _print(show_duel(show_config(arguments.target, arguments.overrides)))
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.names[:1] == ["oracles"]:
        return _bench_oracles(arguments)
    if arguments.faults:
        raise UserError("'--faults' is for servers that behave badly: write 'duelenv bench oracles --faults'")
    if arguments.names[:1] in (["faults"], ["ledger"]):
        return _bench_safety(arguments)
    if arguments.names[:1] == ["alignment"]:
        return _bench_alignment(arguments)
    if arguments.names[:1] == ["sweeps"]:
        from duelenv.experiments.bench.sweeps import backend_rates, rates_text

        print(rates_text(list(backend_rates(arguments.names[1:]))))
        return 0
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
    """What keeps labels safe: its cost, and whether it does."""
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
    """The words of a bench command, once more."""
    words = list(arguments.names)
    for option in ("matrix", "replicates"):
        value = getattr(arguments, option)
        words += [] if value is None else [f"--{option}", str(value)]
    return [*words, "--quick"] if arguments.quick else words


def command() -> NoReturn:
    """The command as a process: nothing keeps it from ending once a signal has told it to."""
    warn_printably()
    try:
        code = main()
    except Exception:
        print(printable(traceback.format_exc(), newlines=True), end="", file=sys.stderr)
        code = 1
    if code >= 128:
        from duelenv.experiments.running.processes import leave_in_time

        leave_in_time(code)
    sys.exit(code)


if __name__ == "__main__":
    command()
