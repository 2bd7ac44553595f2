"""An oracle at an address, as `duelenv serve` answers there: the client, and what both sides write to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.remote.client import Remote
from duelenv.oracles.remote.later import RemoteSource
from duelenv.oracles.services.home import Home

__all__ = ["Remote", "RemoteSource", "connect"]


def connect(
    url: str,
    *,
    token: Mapping[str, str] | None = None,
    salt: str = "",
    batch: int = 64,
    patience: Mapping[str, Any] | None = None,
    later: bool = False,
    home: Home | None = None,
) -> Remote | RemoteSource:
    """Make the oracle `remote` of configs.

    Args:
        url: As `Remote` takes it, like all others but the last.
        token: See there.
        salt: See there.
        batch: See there.
        patience: See there.
        later: Whether answers come later: the run plays on with what has come, as with any source, and waits in
            its last round for the rest.
        home: What a run gives.

    Raises:
        UserError: A setting is refused.
    """
    if checks.flag("later", later) and salt:
        raise UserError("'salt' is set with 'later', where every request is a question of its own; leave it out")
    remote = Remote(url, token=token, salt=salt, batch=batch, patience=patience)
    return RemoteSource(remote, (home or Home()).pause) if later else remote
