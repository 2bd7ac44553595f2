"""A reward model behind a server as a utility: batches, what is known already, what is paid, what failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duelenv.ground import checks
from duelenv.ground.dialogue import prompt_of
from duelenv.ground.errors import UserError
from duelenv.ground.registry import Registry
from duelenv.oracles import links
from duelenv.oracles.base import Preferences, Unanswered, UtilityOracle
from duelenv.oracles.served import sglang, tei, vllm
from duelenv.oracles.served.cache import Scores
from duelenv.oracles.served.reading import Label, Reading
from duelenv.oracles.served.shapes import Api, Asked
from duelenv.oracles.served.texts import DEFAULT, Chat, Template
from duelenv.oracles.served.transport import Transport
from duelenv.oracles.services.home import Home
from duelenv.oracles.services.retrying import Pace, Patience, may_be_tried_again, persistently, side_by_side, status_of
from duelenv.oracles.services.secrets import token_for
from duelenv.oracles.services.spending import Cost, Purse, Reservation
from duelenv.oracles.templates import check_whole

APIS: Registry[Callable[[], Api]] = Registry(
    "api",
    {
        "vllm_classify": vllm.Classify,
        "vllm_pooling": vllm.Pooling,
        "vllm_score": vllm.Score,
        "sglang_classify": sglang.Classify,
        "tei_predict": tei.Predict,
        "tei_rerank": tei.Rerank,
    },
)
"""The servers' shapes by the name that stands in a configuration; one of your own is a class like `Api`."""


class Unscored(UserError):
    """Some responses have no score now; those that came are kept, and are not asked for again.

    Attributes:
        utilities: Of all responses, float64 [N]; NaN where there is no score.
    """

    def __init__(self, message: str, utilities: NDArray[np.float64]) -> None:
        super().__init__(message)
        self.utilities = utilities

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.utilities)


class RewardServer(UtilityOracle):
    """Utility = the score that a server gives to (prompt, response).

    A score is asked for once: it is remembered by server, model, shape and texts, in memory and in a run also in a
    file that all its cells and later starts read. Where a part of a batch fails for good, the rest is remembered, a
    duel is answered if both of its scores are there, and `Unanswered` says so of the others.

    Attributes:
        link: Name of the link.
        free: False: nobody asks it for more than a run needs.
    """

    free = False

    def __init__(
        self,
        url: str,
        api: str,
        *,
        model: str | None = None,
        text: str | None = None,
        tokenizer: str | None = None,
        label: Label = None,
        scale: str = "raw",
        extra: Mapping[str, Any] | None = None,
        token: Mapping[str, str] | None = None,
        batch_size: int = 32,
        patience: Mapping[str, Any] | None = None,
        price: float | None = None,
        link: str = "logistic",
        home: Home | None = None,
    ) -> None:
        """Take the settings; nothing is asked yet.

        Args:
            url: The server's address, such as `http://127.0.0.1:8000`.
            api: Which of the shapes in `APIS` it speaks.
            model: Its name, where the server wants one.
            text: How prompt and response become one text: a template with {prompt} and {response} (the default is
                that of `reward_model`) or "chat". "pair" for `tei_predict` to send the two apart, as `vllm_score` and
                `tei_rerank` always do.
            tokenizer: Folder or name of the model's tokenizer, for "chat".
            label: Of a model with several, whose score is the utility, by index (vLLM, SGLang) or name (TEI); or two of
                them, the better first, for a difference.
            scale: "raw", or "probability" where the server's activation cannot be switched off; see `Reading`.
            extra: Fields that every request has besides, or in place of its own; null leaves one out.
            token: Where the bearer token stands: `{env: NAME}` or `{file: PATH}`.
            batch_size: Responses in one request.
            patience: Settings of `Patience`.
            price: What one score costs, paid from the run's purse; None where it costs nothing.
            link: Name of the link.
            home: What a run gives.

        Raises:
            UserError: A setting is refused.
        """
        links.link(link)
        self.link = link
        self._api: Api = tei.PredictPairs() if (api, text) == ("tei_predict", "pair") else APIS[api]()
        self._write = _writer(api, self._api.pairs, text, tokenizer)
        self._reading = Reading(label, scale)
        self._extra = checks.mapping("extra", extra)
        if model is not None:
            self._extra = {"model": checks.text("model", model), **self._extra}
        self._batch_size = checks.integer("batch_size", batch_size, low=1)
        settings = checks.mapping("patience", patience)
        checks.refuse_unknown("patience", settings, Patience.__dataclass_fields__)
        self._patience = Patience(**settings)
        self._pace = Pace(self._patience.rate)
        self._price = None if price is None else checks.number("price", price, low=0.0)
        self._purse = home.purse if home is not None else Purse()
        self._transport = Transport(checks.text("url", url), token_for(url, token), self._patience.timeout)
        self.name = f"{url.rstrip('/')}{self._api.path}"
        owner = {"url": url, "api": api, "text": text, "label": label, "scale": scale, "extra": self._extra}
        path: Path | None = None if home is None or home.folder is None else home.folder / "reward_servers.sqlite"
        self._scores = Scores({**owner, "tokenizer": tokenizer}, path)

    @property
    def price(self) -> float:
        """The most that an answer costs: two scores."""
        return 2.0 * (self._price or 0.0)

    def utility(self, prompts: Sequence[str], responses: Sequence[str]) -> NDArray[np.float64]:
        """Score each response, float64 [N].

        Raises:
            Unscored: Some have none now; its message says why.
            UserError: Something is no text.
        """
        wanted = [
            (prompt_of(prompt, "prompts", f"prompt {place}"), response)
            for place, (prompt, response) in enumerate(zip(prompts, responses, strict=True))
        ]
        for prompt, response in wanted:
            if not isinstance(response, str):
                raise UserError(f"response is {response!r}, expected a string; correct it")
            check_whole(prompt, response)
        keys = [self._scores.key(*one) for one in wanted]
        known = self._scores.find(keys)
        missing = {key: one for key, one in zip(keys, wanted, strict=True) if key not in known}
        faults = self._ask_for(missing, known)
        utilities = np.array([known.get(key, np.nan) for key in keys], dtype=np.float64)
        if faults:
            lacking = int(np.isnan(utilities).sum())
            raise Unscored(
                f"{lacking} of {len(keys)} responses have no score: {self._sentence(faults[0])}; what was answered is "
                "kept for the next time",
                utilities,
            )
        return utilities

    def preference(
        self, prompts: Sequence[str], first: Sequence[str], second: Sequence[str], *, temperature: float = 1.0
    ) -> NDArray[np.float64]:
        """Compute F((u_first - u_second) / temperature), float64 [N].

        Raises:
            Unanswered: Some duels lack a score; the others are answered in it.
        """
        try:
            return super().preference(prompts, first, second, temperature=temperature)
        except Unscored as error:
            difference = error.utilities[: len(first)] - error.utilities[len(first) :]
            win = np.asarray(links.link(self.link)(difference / temperature), dtype=np.float64)
            raise Unanswered(str(error), Preferences(win, np.zeros(len(win))), ~np.isnan(win)) from error

    def _ask_for(self, missing: Mapping[bytes, tuple[str, str]], known: dict[bytes, float]) -> list[Exception]:
        """Ask for scores and add them to the known ones; the faults of the batches that have none."""
        asked = {key: Asked(*one, self._write(*one) if self._write else "") for key, one in missing.items()}
        batches = list(self._batches(asked))
        faults: dict[int, Exception] = {}
        contents = [[asked[key] for key in batch] for batch in batches]
        for place, outcome in side_by_side(self._batch, contents, self._patience.width):
            if isinstance(outcome, Exception):
                faults[place] = outcome
                continue
            scores = dict(zip(batches[place], outcome, strict=True))
            self._scores.keep(scores)
            known.update(scores)
        for error in faults.values():
            if not (isinstance(error, UserError) or may_be_tried_again(error) or status_of(error)):
                raise error  # a defect here, and nothing that a server did
        return [faults[place] for place in sorted(faults)]

    def _batches(self, asked: Mapping[bytes, Asked]) -> list[list[bytes]]:
        """Group keys, at most `batch_size` together; of one prompt each, where the server takes one only."""
        groups: dict[str, list[bytes]] = {}
        for key, one in asked.items():
            groups.setdefault(one.prompt if self._api.one_prompt else "", []).append(key)
        size = self._batch_size
        return [keys[start : start + size] for keys in groups.values() for start in range(0, len(keys), size)]

    def _batch(self, asked: Sequence[Asked]) -> list[float]:
        return persistently(lambda: self._once(asked), self._patience)

    def _once(self, asked: Sequence[Asked]) -> list[float]:
        """Ask for the utilities of one batch, by one request."""
        body = {**self._api.body(asked, raw=self._reading.scale == "raw"), **self._extra}
        body = {name: value for name, value in body.items() if value is not None}
        most = Cost(money=(self._price or 0.0) * len(asked))
        with self._purse.reserving(most) if most.money else nullcontext(Reservation(most)) as reservation:
            self._pace()
            try:
                answer = self._transport.post(self._api.path, body, self._api.most_bytes)
            except Exception as error:
                if isinstance(error, UserError) or status_of(error) is not None:
                    reservation.settle(Cost())  # it said no; of what hung up it is not known what it counted
                raise
            rows = self._api.rows(answer, len(asked))
        return [self._reading.utility(row) for row in rows]

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, UserError):
            return str(error)
        said = f"{status_of(error)}" if status_of(error) else f"{type(error).__name__}: {error}"
        return f"{self.name} gives no readable answer ({said[:200]}) after {self._patience.attempts} attempts at most"


def _writer(api: str, pairs: bool, text: str | None, tokenizer: str | None) -> Template | Chat | None:
    """Make what writes one text of prompt and response; None where they are sent apart."""
    if tokenizer is not None and text != "chat":
        raise UserError("tokenizer is given, which is for text='chat' only; leave it out")
    if pairs:
        if text not in (None, "pair"):
            raise UserError(f"text is {text!r}, but {api} is sent prompt and response apart; leave it out")
        return None
    if text == "pair":
        raise UserError(f"text is 'pair', but {api} is sent one text; give a template, or 'chat' with a tokenizer")
    if text == "chat":
        if tokenizer is None:
            raise UserError("text is 'chat', which needs the model's tokenizer: name its folder by 'tokenizer'")
        return Chat.load(tokenizer)
    return Template(DEFAULT if text is None else text)
