"""`duelenv serve`: reads what is to be served and how, opens the socket, and ends when it is told to."""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from duelenv.experiments.config.loading import apply_override, load
from duelenv.experiments.config.modules import load_modules
from duelenv.experiments.config.settings import NamedConfig, read_named
from duelenv.experiments.running.processes import GRACE_SECONDS
from duelenv.ground import checks
from duelenv.ground.addresses import is_loopback
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable

__all__ = ["add_parser"]

#: What ends a server.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
#: Connections that are open at the same time, at most.
_CONNECTIONS: Final = 512


def add_parser(commands: Any) -> None:
    """Add the command to those of `duelenv`."""
    serve = commands.add_parser(
        "serve",
        help="an oracle as an HTTP server, which the oracle 'remote' asks",
        description="Serves ORACLE, a registered oracle, or the oracle of a config, until it is told to end (Ctrl-C, "
        "SIGTERM). Prints its address when it is ready.",
    )
    serve.add_argument("oracle", metavar="ORACLE_OR_CONFIG", help="such as good_words (see 'duelenv list'), or a YAML")
    serve.add_argument(
        "overrides", metavar="key=value", nargs="*", default=[], help="settings of the oracle, or of the config"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine)")
    serve.add_argument("--port", type=int, default=8000, help="0 for any that is free (default: 8000)")
    serve.add_argument("--token-env", metavar="NAME", help="environment variable with the token that clients send")
    serve.add_argument("--token-file", metavar="FILE", help="file with that token")
    serve.add_argument(
        "--record", metavar="FILE", type=Path, help="SQLite file of all answers (default: memory, the last 500,000)"
    )
    for name, kind, default, meaning in (
        ("batch", int, 1024, "duels in one request"),
        ("body", int, 8 * 2**20, "bytes of one request"),
        ("rate", float, 2000.0, "requests a second"),
        ("waiting", int, 64, "requests that wait for the oracle"),
        ("seconds", float, 300.0, "seconds that a request waits for the oracle"),
        ("upload", float, 30.0, "seconds in which a request must have come"),
    ):
        serve.add_argument(
            f"--{name}", metavar="N", type=kind, default=default, help=f"{meaning}, at most (default: {default:,g})"
        )
    serve.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from duelenv.oracles.services.secrets import read_secret

    try:
        import uvicorn

        from duelenv.experiments.serving.app import make_app
    except ImportError as error:
        raise UserError("'duelenv serve' needs FastAPI and uvicorn: pip install 'duelenv[web]'") from error
    from duelenv import oracles
    from duelenv.experiments.serving.desk import Desk
    from duelenv.experiments.serving.guard import Limits
    from duelenv.experiments.serving.metrics import Metrics
    from duelenv.experiments.serving.record import Record

    if arguments.token_env and arguments.token_file:
        raise UserError("'--token-env' and '--token-file' say where one token stands: leave one of them out")
    place = {"env": arguments.token_env} if arguments.token_env else None
    place = {"file": arguments.token_file} if arguments.token_file else place
    token, local = read_secret("token", place), is_loopback(arguments.host)
    if token is None and not local:
        raise UserError(
            f"'--host' is {arguments.host!r}, which others reach: give a token by '--token-env NAME' or '--token-file "
            "FILE', or leave '--host' out"
        )
    limits = Limits(**{field.name: getattr(arguments, field.name) for field in fields(Limits)})
    named = _named(arguments.oracle, arguments.overrides)
    oracle = oracles.make(named.name, **named.settings)
    with closing(Record(arguments.record, oracle=_identity(named))) as record, _listening(arguments) as listener:
        desk = Desk(oracle, record, Metrics())
        app = make_app(desk, limits=limits, token=token, local=local)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=int(GRACE_SECONDS),
        )
        address = _address(listener)

        class Server(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                print(f"serving {printable(named.name)} at {address}", flush=True)

        try:
            return _until_told(Server(config), listener)
        finally:
            # What the oracle was asked by somebody who has gone is paid all the same.
            desk.finish(GRACE_SECONDS)


def _named(given: str, overrides: Sequence[str]) -> NamedConfig:
    """Find the oracle that a name and its settings mean, or a config."""
    from duelenv import oracles

    if given in oracles.names():
        raw: dict[str, Any] = {"oracle": {"name": given}}
        for override in overrides:
            apply_override(raw, f"oracle.{override}")
        return read_named("oracle", raw["oracle"])
    if not Path(given).suffix:
        raise UserError(f"no oracle {given!r} and no config of that name: {checks.choices(given, oracles.names())}")
    config = load(given, overrides)
    load_modules(config.modules)
    if config.oracle is None:
        raise UserError(f"{given!r} has no 'oracle' to be served; add one, or name a registered one")
    return config.oracle


def _identity(named: NamedConfig) -> str:
    """Make what the record of an oracle is known by; settings may be long, and stand for files."""
    settings = json.dumps(named.settings, sort_keys=True, default=str).encode()
    return f"{named.name} with settings {hashlib.sha256(settings).hexdigest()[:12]}"


@contextmanager
def _listening(arguments: argparse.Namespace) -> Iterator[socket.socket]:
    port = checks.integer("--port", arguments.port, low=0, high=65_535)
    family, _, _, _, address = socket.getaddrinfo(arguments.host, port, type=socket.SOCK_STREAM)[0]
    with socket.create_server(address[:2], family=family, backlog=128) as listener:
        # Connections inherit it. asyncio sets it on sockets that name their protocol, which this one does not; without
        # it head and body of an answer, two writes, wait 40 ms for each other (Nagle's delay of a delayed ACK).
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _until_told(server: Any, listener: socket.socket) -> int:
    """Serve until a signal comes, finish what is under way, and return the exit code."""
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, _: told.append(number)) for number in _SIGNALS}
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + told[0] if told else 1
