"""Getting verdicts: from what was said before, else of the model, side by side and as persistently as is set."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from duelenv.ground.errors import UserError
from duelenv.ground.terminal import printable
from duelenv.oracles.judge.digests import digest_of
from duelenv.oracles.judge.endpoint import Endpoint, NoLogProbs, TooLong
from duelenv.oracles.judge.orders import Shown
from duelenv.oracles.judge.templates import Template
from duelenv.oracles.judge.verdict_cache import VerdictCache
from duelenv.oracles.judge.verdicts import NoVerdict, Reading, Reply, Verdict
from duelenv.oracles.services.retrying import Pace, Patience, may_be_tried_again, persistently, side_by_side
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
class Batch:
    """What became of the requests of one call, by their digests."""

    shown: dict[bytes, Shown] = field(default_factory=dict)
    verdicts: dict[bytes, Verdict] = field(default_factory=dict)
    declined: dict[bytes, Exception] = field(default_factory=dict)
    failure: Exception | None = None
    """What the first request failed of for good, or after all patience."""


class Asking:
    """Asks one model, in one way.

    Args:
        endpoint: Where the model is.
        template: How it is asked.
        reading: How its replies are read.
        patience: How persistently it is asked.
        cache: What it has said.

    Attributes:
        declined: Requests of this process that it would not judge, or that were too long for it.
        requests: Requests of this process that it did judge.
    """

    def __init__(
        self, endpoint: Endpoint, template: Template, reading: Reading, patience: Patience, cache: VerdictCache
    ) -> None:
        self.endpoint, self.template, self.reading, self.patience = endpoint, template, reading, patience
        self._cache = cache
        self._pace = Pace(patience.rate)
        self._about = _fingerprint(endpoint, template, reading)
        self._log_probs = reading.evidence != "word"
        self._lock = threading.Lock()
        self.declined = self.requests = 0

    def most(self, way: Shown) -> Cost:
        """Find the most that one request may cost."""
        return self.endpoint.most(self.template.messages(*way))

    def digest(self, way: Shown) -> bytes:
        """Make what the cache knows a request by."""
        return digest_of(way, key=self._about)

    def about(self, ways: Iterable[Shown]) -> Batch:
        """Collect the verdicts on responses in the orders in which they are shown.

        What was declined and what failed is in the batch that is returned.

        Raises:
            UserError: The model has given no verdict on its first requests at all, or the cache cannot be written.
        """
        batch = Batch(shown={self.digest(way): way for way in ways})
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

    def _check_that_it_judges(self, declined: Exception, batch: Batch) -> None:
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


def _fingerprint(endpoint: Endpoint, template: Template, reading: Reading) -> bytes:
    """Hash all that a verdict depends on besides the texts."""
    about = [
        endpoint.url,
        endpoint.model,
        endpoint.parameters,
        template.user,
        template.form,
        template.key.hex(),
        template.system,
        sorted(reading.grades.items()),
        reading.evidence,
    ]
    return digest_of([json.dumps(about, sort_keys=True)], size=32)
