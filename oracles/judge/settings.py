"""A judge from settings, as they stand in a configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.judge.asking import Asking
from duelenv.oracles.judge.endpoint import Endpoint
from duelenv.oracles.judge.oracle import Judge
from duelenv.oracles.judge.orders import ORDERS
from duelenv.oracles.judge.prices import longest_reply, read_prices
from duelenv.oracles.judge.templates import Template, read_template
from duelenv.oracles.judge.verdict_cache import VerdictCache
from duelenv.oracles.judge.verdicts import reading
from duelenv.oracles.services.figures import Figures
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.retrying import Patience
from duelenv.oracles.services.secrets import token_for

#: How far a reply may go that is one word, with whatever a tokeniser and a chat template put around it.
_MAX_TOKENS: Final = 16
#: Of the marks: not a secret (`fences` says why), and the same on every machine, so that a run can be repeated.
_KEY: Final = b"duelenv judge"
_RESERVED: Final = ("model", "messages", "stream", "n", "tools", "functions", "response_format", "logprobs")


def make_judge(
    url: str,
    model: str,
    token: Mapping[str, str] | None = None,
    template: str = "short",
    criteria: str | Sequence[str] | None = None,
    system: bool = True,
    order: str = "both",
    verdict: str = "auto",
    scale: int = 5,
    ties: bool = False,
    parameters: Mapping[str, Any] | None = None,
    price: Mapping[str, float] | None = None,
    patience: Mapping[str, Any] | None = None,
    cache: str | None = None,
    bias_share: float = 0.1,
    max_bytes: int = 1_000_000,
    same_model: bool = True,
    home: Home | None = None,
) -> Judge:
    """Make a judge from settings, as they stand in a configuration file.

    Args:
        url: Of an OpenAI-compatible server, up to and without "/chat/completions".
        model: Its name there.
        token: `{env: NAME}` or `{file: PATH}`; none for a server that asks for none.
        template: "short", "criteria", a text with {prompt}, {first} and {second}, or a file with one.
        criteria: For the template of that name.
        system: Whether the model takes a system message.
        order: "both", "random" or "fixed" (`orders`).
        verdict: "auto", "logprobs", "word" or "scale" (`verdicts`).
        scale: Grades of a scale, 2 to 9.
        ties: Whether the model may call a tie with a letter of its own.
        parameters: Of every request; `temperature: 0` and `max_tokens: 16` unless given otherwise, None leaves one out.
        price: `{input: X, output: Y}` for a million tokens.
        patience: Settings of `services.retrying.Patience`.
        cache: SQLite file of verdicts; in a run there is one in its folder without it.
        bias_share: Share of duels shown in both orders to measure position bias, where `order` is not "both".
        max_bytes: Longest answer that is read.
        same_model: Take an answer only from a model whose name begins like `model`, or the other way round.
        home: Given by a run.

    Raises:
        UserError: A setting is refused, or the package `openai` is missing.
    """
    checks.text("url", url)
    checks.text("model", model)
    if not url.startswith(("http://", "https://")):
        raise UserError(f"url is {url!r}, expected one that begins with http:// or https://; change url")
    if "@" in url.split("/")[2]:
        raise UserError("url holds a name or password, which would be saved with the config; give it as 'token'")
    checks.one_of("order", order, ORDERS)
    share = checks.number("bias_share", bias_share, low=0.0, high=1.0)
    read = reading(verdict, scale, ties)
    asked = Template(read_template(template, criteria), read.form, _KEY, checks.flag("system", system))
    given = checks.mapping("patience", patience)
    checks.refuse_unknown("patience", given, Patience.__dataclass_fields__)
    persistence = Patience(**given)
    place = home or Home()
    if cache is not None:
        path: Path | None = Path(checks.text("cache", cache)).expanduser()
    else:
        path = None if place.folder is None else place.folder / "judge.sqlite"
    endpoint = Endpoint(
        url.rstrip("/"),
        model,
        token=token_for(url, token),
        parameters=_parameters(parameters),
        max_bytes=checks.integer("max_bytes", max_bytes, low=1000),
        timeout=persistence.timeout,
        width=persistence.width,
        same_model=checks.flag("same_model", same_model),
        prices=read_prices(price),
        purse=place.purse,
    )
    return Judge(
        Asking(endpoint, asked, read, persistence, VerdictCache(path)),
        order=order,
        bias_share=share,
        figures=Figures(place.folder),
        name=f"judge {model}, {_short(template)}, {verdict}, order {order}",
    )


def _parameters(given: object) -> dict[str, Any]:
    own = checks.mapping("parameters", given)
    for name in own:
        if name in _RESERVED:
            raise UserError(f"'parameters' holds {name!r}, which the judge sets itself: leave it out")
    for name in ("max_tokens", "max_completion_tokens"):
        if own.get(name) is not None:
            checks.integer(f"parameters.{name}", own[name], low=1)
    # OpenAI's later models refuse the older name beside the newer one.
    longest = {} if "max_completion_tokens" in own else {"max_tokens": _MAX_TOKENS}
    every = {"temperature": 0.0, **longest, **own}
    kept = {name: value for name, value in every.items() if value is not None}
    if not longest_reply(kept):
        raise UserError(
            "'parameters' leaves replies without a longest length; give 'max_tokens', which limits what one costs"
        )
    try:
        json.dumps(kept)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"'parameters' cannot be sent as JSON ({error}); give numbers, texts, lists and mappings"
        ) from error
    return kept


def _short(template: str) -> str:
    return template if "{" not in template and "/" not in template else "own template"
