"""The judge as an oracle: duels become requests, requests verdicts, and verdicts preferences."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable
from duelenv.oracles.base import Preferences, Unanswered
from duelenv.oracles.judge.endpoint import Endpoint, NoLogProbs, TooLong
from duelenv.oracles.judge.orders import ORDERS, Shown, drawn, order_of, position, together, turned
from duelenv.oracles.judge.prices import longest_reply, read_prices
from duelenv.oracles.judge.templates import Template, read_template
from duelenv.oracles.judge.verdict_cache import VerdictCache
from duelenv.oracles.judge.verdicts import NoVerdict, Reading, Reply, Verdict, reading
from duelenv.oracles.services.figures import Figures
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.retrying import (
    Pace,
    Patience,
    may_be_tried_again,
    pause_asked_for,
    persistently,
    side_by_side,
)
from duelenv.oracles.services.secrets import read_secret
from duelenv.oracles.services.spending import Cost

#: A judge that has declined so many requests and decided none does not decline now and then: something is set wrong.
_DECLINES: Final = 8


class _NotSent(Exception):
    """The batch was given up before it was this request's turn."""


class _Outage:
    """Whether it makes sense to send the requests of a batch that have not been sent yet.

    One that fails after all patience may be a poison of its own. As many in a row as are open at a time are an outage,
    and a refusal for good, or an empty purse, meets all.
    """

    def __init__(self, width: int) -> None:
        self._left = self._width = width
        self._lock = threading.Lock()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Send one request in the block.

        Raises:
            _NotSent: Not any more.
        """
        if self._left <= 0:
            raise _NotSent
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
            raise
        finally:
            with self._lock:
                if error is None or isinstance(error, NoVerdict | TooLong):  # the service is there
                    self._left = self._width if self._left > 0 else 0
                else:
                    self._left = 0 if isinstance(error, UserError) else self._left - 1


@dataclass
class _Batch:
    """What became of the requests of one call, by their digests."""

    shown: dict[bytes, Shown] = field(default_factory=dict)
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    declined: dict[bytes, Exception] = field(default_factory=dict)
    failure: Exception | None = None
    """What the first request failed of for good, or after all patience."""


class Judge:
    """A language model that compares two responses.

    A request that fails is tried again alone; verdicts are kept as they come. Use `make_judge`, which reads settings.

    Args:
        endpoint: Where the model is.
        template: How it is asked.
        reading: How its replies are read.
        order: One of `orders.ORDERS`.
        bias_share: Share of duels that are shown in both orders to measure position bias, where `order` is not "both".
        patience: How persistently it is asked.
        cache: What it has said.
        figures: Where it notes what it observes of itself.
        name: What reports call it.

    Attributes:
        declined: Requests of this process that it would not judge, or that were too long for it; the duel is NaN.
        requests: Requests of this process that it did judge.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        template: Template,
        reading: Reading,
        *,
        order: str,
        bias_share: float,
        patience: Patience,
        cache: VerdictCache,
        figures: Figures,
        name: str,
    ) -> None:
        self.endpoint, self.template, self.reading = endpoint, template, reading
        self.order, self.bias_share, self.patience, self.name = order, bias_share, patience, name
        self._cache, self._figures = cache, figures
        self._pace = Pace(patience.rate)
        self._about = _fingerprint(endpoint, template, reading)
        self._log_probs = reading.evidence != "word"
        self._lock = threading.Lock()
        self.declined = self.requests = 0

    def __call__(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], /) -> Preferences:
        """The preferences of N duels; NaN where the model declines to judge.

        Equal responses are a tie, and nobody is asked.

        Raises:
            Unanswered: The service failed, refused for good, or the purse is empty; with the answers that there are.
            UserError: The model has given no verdict of the first duels at all.
        """
        duels = [Shown(*texts) for texts in zip(prompts, first, second, strict=True)]
        batch = self._asked([one for duel in duels for one in self._ways(duel)])
        win, tie, answered = np.full(len(duels), np.nan), np.zeros(len(duels)), np.zeros(len(duels), np.bool_)
        for place, duel in enumerate(duels):
            answer = self._answer(duel, batch)
            answered[place] = answer is not None
            if isinstance(answer, Verdict):
                win[place], tie[place] = answer.win, answer.tie
        self._note(duels, batch, answered, win)
        if batch.failure is not None and not answered.all():
            raise Unanswered(
                self._sentence(batch.failure, answered), Preferences(win, tie), answered
            ) from batch.failure
        return Preferences(win, tie)

    def shown_once(self) -> Judge:
        """The same judge, that is shown each duel once and as it is; for probes of it."""
        return Judge(
            self.endpoint,
            self.template,
            self.reading,
            order="fixed",
            bias_share=0.0,
            patience=self.patience,
            cache=self._cache,
            figures=Figures(),
            name=self.name,
        )

    @property
    def spent(self) -> Cost:
        """What was spent from the judge's purse, by all who share it, with what is under way."""
        return self.endpoint.spent

    def figures(self) -> dict[str, float]:
        """Means over all duels of the run, or of this judge outside of runs.

        `declined`: share of duels that were not judged. `words`: share of those judged that were so without
        probabilities. Where both orders were shown, `turned`: share of duels whose verdict turned with the order;
        `shift`: how much likelier a response is preferred for being shown first.
        """
        return self._figures.means(self.name)

    def most(self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Cost:
        """The most that duels may cost if each request is answered at once; nothing is sent."""
        duels = [Shown(*texts) for texts in zip(prompts, first, second, strict=True)]
        ways = {one for duel in duels for one in self._ways(duel)}
        return sum((self.endpoint.most(self.template.messages(*way)) for way in ways), Cost())

    # Duels and requests ----------------------------------------------------------------------------------------------

    def _ways(self, duel: Shown) -> list[Shown]:
        """The orders in which a duel is shown."""
        if duel.first == duel.second:
            return []
        shown = order_of(self.order, duel)
        # The upper end of the draw: the lower half decides the order.
        both = self.order == "both" or (2.0 * drawn(duel)) % 1.0 < self.bias_share
        return [shown, shown.turned] if both else [shown]

    def _shown(self, duel: Shown) -> list[Shown]:
        """Those of its orders that make the answer."""
        return self._ways(duel)[: 2 if self.order == "both" else 1]

    def _answer(self, duel: Shown, batch: _Batch) -> Verdict | Exception | None:
        """What is said of a duel: a verdict, why it was declined, or nothing yet."""
        if duel.first == duel.second:
            return Verdict(0.0, 1.0, said=True)
        ways = self._shown(duel)
        digests = [self._digest(way) for way in ways]
        for digest in digests:
            if digest in batch.declined:
                return batch.declined[digest]
        if not all(digest in batch.verdicts for digest in digests):
            return None
        said = [self._about_first(duel, way, batch) for way in ways]
        return said[0] if len(said) == 1 else together(said[0], said[1])

    def _about_first(self, duel: Shown, way: Shown, batch: _Batch) -> Verdict:
        verdict = batch.verdicts[self._digest(way)]
        return verdict if way == duel else turned(verdict)

    def _digest(self, way: Shown) -> bytes:
        """What the cache knows a request by."""
        digest = hashlib.blake2b(self._about, digest_size=16)
        for text in way:
            raw = text.encode("utf-8", "surrogatepass")
            digest.update(len(raw).to_bytes(8, "big") + raw)
        return digest.digest()

    # Asking ----------------------------------------------------------------------------------------------------------

    def _asked(self, ways: Iterable[Shown]) -> _Batch:
        """Get verdicts from the cache and of the model; whatever fails is in the batch."""
        batch = _Batch(shown={self._digest(way): way for way in ways})
        batch.verdicts.update(self._cache.known(list(batch.shown)))
        unknown = [digest for digest in batch.shown if digest not in batch.verdicts]
        outage = _Outage(self.patience.width)

        def ask(digest: bytes) -> Verdict:
            with outage.watched():
                verdict = self._verdict(batch.shown[digest])
            # Written down here, and not by whoever waits: Ctrl-C loses nothing that was paid.
            return self._cache.keep(digest, verdict)

        for place, result in side_by_side(ask, unknown, self.patience.width):
            digest = unknown[place]
            if isinstance(result, Verdict):
                batch.verdicts[digest] = result
            elif isinstance(result, NoVerdict | TooLong):
                batch.declined[digest] = result
                self._check_that_it_judges(result, batch)
            elif not isinstance(result, _NotSent):
                if not isinstance(result, UserError) and not may_be_tried_again(result):
                    raise result  # a defect
                batch.failure = batch.failure or result
        return batch

    def _check_that_it_judges(self, declined: Exception, batch: _Batch) -> None:
        """Stop a judge that declines everything, as one does whose replies are of another form than is set.

        Raises:
            UserError: It has declined the first requests, all of them.
        """
        self.declined += 1
        if self.requests or batch.verdicts or self.declined < _DECLINES:
            return
        raise UserError(
            f"the judge {self.endpoint.model!r} has given no verdict on its first {self.declined} requests, at last: "
            f"{printable(self.endpoint.clean(str(declined)))}; change 'verdict', 'template', or 'max_tokens' of "
            "'parameters'"
        )

    def _verdict(self, way: Shown) -> Verdict:
        messages = self.template.messages(*way)

        def once() -> Verdict:
            self._pace()
            verdict = self.reading.verdict(self._reply(messages))
            with self._lock:
                self.requests += 1
            return verdict

        return persistently(once, self.patience)

    def _reply(self, messages: Sequence[Mapping[str, str]]) -> Reply:
        log_probs = self._log_probs  # which another thread may change meanwhile
        try:
            return self.endpoint.ask(messages, log_probs=log_probs)
        except NoLogProbs:
            if self.reading.evidence == "logprobs" or not log_probs:
                raise
            self._log_probs = False  # from now on, and for all: this server has none
            return self.endpoint.ask(messages, log_probs=False)

    # What is told ----------------------------------------------------------------------------------------------------

    def _note(
        self, duels: Sequence[Shown], batch: _Batch, answered: NDArray[np.bool_], win: NDArray[np.float64]
    ) -> None:
        noted: dict[str, dict[bytes, float]] = {"declined": {}, "words": {}, "turned": {}, "shift": {}}
        for duel, known, value in zip(duels, answered.tolist(), win.tolist(), strict=True):
            ways = self._ways(duel)
            if not ways:
                continue
            # The same for both orders of a duel.
            key = min(self._digest(duel), self._digest(duel.turned))
            if known:
                noted["declined"][key] = float(np.isnan(value))
                if not np.isnan(value):
                    noted["words"][key] = float(
                        all(batch.verdicts[self._digest(way)].said for way in self._shown(duel))
                    )
            if len(ways) == 2 and all(self._digest(way) in batch.verdicts for way in ways):
                found = position(*(self._about_first(ways[0], way, batch) for way in ways))
                noted["turned"][key], noted["shift"][key] = found
        for name, values in noted.items():
            self._figures.note(self.name, name, values)

    def _sentence(self, failure: Exception, answered: NDArray[np.bool_]) -> str:
        """What happened, and what to do."""
        count = f"{int(answered.sum())} of {len(answered)} duels of the batch are answered and kept"
        said = self.endpoint.clean(str(failure) or type(failure).__name__)
        if isinstance(failure, UserError):
            return f"{said} ({count})"
        pause = pause_asked_for(failure)
        wait = "" if pause is None else f" and asks to wait for {pause:.0f} s"
        return (
            f"the judge {self.endpoint.model!r} at {self.endpoint.url!r} does not answer within its patience{wait} "
            f"({said}; {count}); the same command goes on"
        )


def _fingerprint(endpoint: Endpoint, template: Template, reading: Reading) -> bytes:
    """All that a verdict depends on besides the texts."""
    about = [
        endpoint.url,
        endpoint.model,
        endpoint.parameters,
        template.user,
        template.form,
        template.key.hex(),
        sorted(reading.grades.items()),
        reading.evidence,
    ]
    return hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=32).digest()


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
    """A judge from settings, as they stand in a configuration file.

    Args:
        url: Of an OpenAI-compatible server, up to and without "/chat/completions".
        model: Its name there.
        token: `{env: NAME}` or `{file: PATH}`; none for a server that asks for none.
        template: "short", "criteria", a text with {prompt}, {first} and {second}, or a file with one.
        criteria: For the template of that name.
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
    asked = Template(read_template(template, criteria), read.form, _KEY)
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
        token=read_secret("token", token),
        parameters=_parameters(parameters),
        max_bytes=checks.integer("max_bytes", max_bytes, low=1000),
        timeout=persistence.timeout,
        width=persistence.width,
        same_model=checks.flag("same_model", same_model),
        prices=read_prices(price),
        purse=place.purse,
    )
    return Judge(
        endpoint,
        asked,
        read,
        order=order,
        bias_share=share,
        patience=persistence,
        cache=VerdictCache(path),
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
