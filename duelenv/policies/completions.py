"""A sampler that asks a completions server: one request a prompt, token ids in and token ids out.

Servers that speak OpenAI's `/v1/completions` and give token ids, such as vLLM (from 0.10.2: `return_token_ids`, and
before that `return_tokens_as_token_ids` beside log-probs) and SGLang (from July 2026: `return_token_ids`). Text is
never tokenised again unless the user says so: another split of the same text is another response.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import torch

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.policies.samplers import Asked, Draws, seed_of

if TYPE_CHECKING:
    from duelenv.policies.causal_lm import CausalLMPolicy

#: Answers that another attempt may improve: too many requests, not ready.
_TRY_AGAIN: Final = (429, 503)
#: Seconds before the second attempt; doubled each time, and never more than the second number.
_PAUSE: Final = (0.5, 30.0)
#: Equal responses that are less likely than this by their own log-probs, in nats, are no coincidence.
_NO_COINCIDENCE: Final = math.log(1e-12)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class CompletionsSampler:
    """Draws from an OpenAI-compatible completions server, whose weights may be those of an earlier version.

    A server that is never told of updates goes on with the weights that it was started with. `publish` is how it is
    told: a function of the policy that hands its weights on and returns when the server has them, such as
    `policy.export(folder)` and then the server's own request to reload. It is called before the first draw, since
    nobody knows what a server has, and then before a draw that would lag `publish_every` updates behind.

    Args:
        url: of the server's API, such as http://localhost:8000/v1.
        model: the name under which it serves the policy's model.
        api_key: sent as a bearer token; "$NAME" reads an environment variable, so that a config holds no key.
        publish: hands the policy's weights to the server; None if nobody does.
        publish_every: how many updates the server may lag before `publish` is called again.
        version: which version of the policy the server begins with, where nothing is published: 0, the start.
        one_by_one: ask for each response by itself, with a seed of its own, instead of for K at once; for servers that
            give K equal responses to one seed, as SGLang does with --enable-deterministic-inference.
        raw_log_probs: whether the server's log-probs are those at temperature 1 whatever it draws at, as vLLM's are
            unless --logprobs-mode says otherwise. If not, as with SGLang, they are read at temperature 1 alone.
        retokenise: tokenise texts anew where the server gives no token ids, at the price of tokens that nobody drew.
        concurrency: most requests at a time.
        timeout: of one request, in seconds.
        attempts: most times that a request is sent where the connection breaks or the server answers 429 or 503.

    Attributes:
        version: int, which version of the policy's weights the server has.

    Raises:
        UserError: a setting that is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        publish: Callable[[CausalLMPolicy], object] | None = None,
        publish_every: int = 1,
        version: int = 0,
        one_by_one: bool = False,
        raw_log_probs: bool = False,
        retokenise: bool = False,
        concurrency: int = 32,
        timeout: float = 600.0,
        attempts: int = 6,
    ) -> None:
        self._url = _address(url)
        self._model = checks.text("model", model)
        self._key = _key(api_key)
        if publish is not None and not callable(publish):
            raise UserError(f"publish is {publish!r}, expected a function of the policy; give one, or leave it out")
        self._publish = publish
        self._every = checks.integer("publish_every", publish_every, low=1)
        self.version = checks.integer("version", version, low=0)
        self._one_by_one = checks.flag("one_by_one", one_by_one)
        self._raw = checks.flag("raw_log_probs", raw_log_probs)
        self._retokenise = checks.flag("retokenise", retokenise)
        self._concurrency = checks.integer("concurrency", concurrency, low=1)
        self._timeout = checks.number("timeout", timeout, above=0)
        self._attempts = checks.integer("attempts", attempts, low=1)
        self._published: object = None  # whose weights the server was told last
        handlers: list[Any] = [_NoRedirect]
        if urlsplit(self._url).hostname in _LOOPBACK:  # no proxy knows this machine
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def __repr__(self) -> str:
        return f"CompletionsSampler({self._url!r}, model={self._model!r})"

    def draw(self, policy: CausalLMPolicy, asked: Asked) -> Draws:
        """See `Sampler`.

        Raises:
            UserError: a server that cannot be reached, refuses, or answers what is no answer.
        """
        self._keep_up(policy)
        num_prompts, num_responses, length = asked.shape
        greedy = asked.temperature == 0
        apart = 1 if greedy or not self._one_by_one else num_responses
        together = 1 if greedy or self._one_by_one else num_responses
        requests = []
        for row in range(num_prompts):
            prompt = asked.prompts.ids[row][asked.prompts.attention[row].bool()].tolist()
            for column in range(apart):
                numbers = asked.uniforms[row, column : column + together] if self._one_by_one else asked.uniforms[row]
                requests.append(self._request(prompt, together, length, asked, seed_of(numbers)))
        answers = self._ask_all(requests, lambda given, sent: self._read(given, sent, policy, asked))
        tokens = torch.full(asked.shape, asked.pad_id, dtype=torch.long)
        mask = torch.zeros(asked.shape, dtype=torch.bool)
        log_prob = torch.zeros(asked.shape)
        known = self._raw or asked.temperature == 1
        for place, answer in enumerate(answers):
            row, column = divmod(place, apart)
            columns = range(num_responses) if greedy else range(column, column + len(answer))
            for at, response in zip(columns, answer * num_responses if greedy else answer, strict=True):
                count = len(response.ids)
                tokens[row, at, :count] = torch.tensor(response.ids)
                mask[row, at, :count] = True
                if response.log_probs is None:
                    known = False
                elif known:
                    log_prob[row, at, :count] = torch.tensor(response.log_probs)
        if known and not greedy:
            self._check_different(tokens, log_prob)
        return Draws(tokens, mask, log_prob if known else None, self.version)

    def _keep_up(self, policy: CausalLMPolicy) -> None:
        """Have the policy's weights published where they were not, or too long ago."""
        if self._publish is None:
            return
        if self._published is policy.history and 0 <= policy.version - self.version < self._every:
            return
        self._published = None  # where the hook fails, nobody knows what the server has
        self._publish(policy)
        self._published, self.version = policy.history, policy.version

    def _request(self, prompt: list[int], count: int, length: int, asked: Asked, seed: int) -> dict[str, Any]:
        """Write the body of one request; what a server may have defaults of its own for is all said."""
        return {
            "model": self._model,
            "prompt": prompt,
            "n": count,
            "max_tokens": length,
            "temperature": asked.temperature,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": list(asked.end_ids),
            "seed": seed,
            "logprobs": 1,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    # Asking

    def _ask_all(
        self, bodies: Sequence[dict[str, Any]], read: Callable[[Any, dict[str, Any]], list[_Response]]
    ) -> list[list[_Response]]:
        """Send requests side by side and read their answers, in the order of the requests."""
        over = threading.Event()

        def answered(body: dict[str, Any]) -> list[_Response]:
            return read(self._ask(body, over), body)

        pool = ThreadPoolExecutor(max_workers=min(self._concurrency, len(bodies)))
        futures: list[Future[list[_Response]]] = []
        try:
            futures += [pool.submit(answered, body) for body in bodies]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
            return [future.result() for future in futures]
        finally:
            over.set()
            # Where one failed nobody waits for the others, which may be minutes away.
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, body: dict[str, Any], over: threading.Event) -> Any:
        """Send one request until it is answered or nothing more is to be hoped for; the answer, read as JSON."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(body).encode()
        for attempt in range(self._attempts):
            request = urllib.request.Request(self._url, data=data, headers=headers, method="POST")
            asked_to_wait = 0.0
            try:
                with self._opener.open(request, timeout=self._timeout) as answer:
                    text = answer.read()
                return self._parsed(text)
            except urllib.error.HTTPError as error:
                problem = self._refusal(error)
                if error.code not in _TRY_AGAIN:
                    raise problem from None
                asked_to_wait = _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                problem = self._unreachable(reason)
                if not _broken(reason):
                    raise problem from None
            if attempt + 1 == self._attempts or over.is_set():
                raise problem
            over.wait(min(max(_PAUSE[0] * 2**attempt, asked_to_wait), _PAUSE[1]))
        raise AssertionError("every attempt returns or raises")

    def _parsed(self, text: bytes) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise self._no_answer(f"{text[:60]!r}, which is no JSON") from None

    def _refusal(self, error: urllib.error.HTTPError) -> UserError:
        """Tell the user what an answer that is an error means."""
        said = _message(error)
        if error.code == 404:
            advice = f"correct model, which is {self._model!r}, or url, which ends in /v1 for most servers"
        elif error.code in (401, 403):
            advice = "give the key that it takes as api_key"
        elif error.code in _TRY_AGAIN:
            advice = f"it did so {self._attempts} times: lower concurrency, which is {self._concurrency}"
        elif 300 <= error.code < 400:
            advice = "give the address that it names as url"
        else:
            advice = "read its log, or correct what it names"
        return UserError(f"the completions server at {self._url} answers {error.code} ({said}); {advice}")

    def _unreachable(self, reason: object) -> UserError:
        if isinstance(reason, TimeoutError):
            return UserError(
                f"the completions server at {self._url} did not answer within {self._timeout:g} s; raise timeout, or "
                "lower concurrency"
            )
        said = " ".join(str(reason).split())[:120] or type(reason).__name__
        return UserError(f"the completions server at {self._url} cannot be reached ({said}); start it, or correct url")

    def _no_answer(self, what: str) -> UserError:
        return UserError(
            f"the completions server at {self._url} answered {what}; give a server of OpenAI's completions with token "
            "ids, such as vLLM or SGLang"
        )

    # Reading

    def _read(self, answer: Any, sent: dict[str, Any], policy: CausalLMPolicy, asked: Asked) -> list[_Response]:
        """Read the responses of one answer, in the order of their indices."""
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise self._no_answer(f"{str(answer)[:60]!r} without choices")
        if len(choices) != sent["n"]:
            raise self._no_answer(f"{len(choices)} choices where {sent['n']} were asked for")
        # Servers that answer as responses come may list them in another order.
        choices = sorted(choices, key=lambda choice: _whole(choice.get("index")) or 0)
        if [_whole(choice.get("index", number)) for number, choice in enumerate(choices)] != list(range(len(choices))):
            raise self._no_answer("choices whose indices are not 0 to n - 1")
        return [self._response(choice, sent, policy, asked) for choice in choices]

    def _response(
        self, choice: dict[str, Any], sent: dict[str, Any], policy: CausalLMPolicy, asked: Asked
    ) -> _Response:
        prompt = choice.get("prompt_token_ids")
        if prompt is not None and prompt != sent["prompt"]:
            raise self._no_answer(
                f"a prompt of {len(prompt) if isinstance(prompt, list) else prompt!r} tokens where other "
                f"{len(sent['prompt'])} were sent"
            )
        listed = choice.get("logprobs")
        log_probs = listed.get("token_logprobs") if isinstance(listed, dict) else None
        ids = choice.get("token_ids")
        if ids is None and isinstance(listed, dict):
            ids = _ids_in_names(listed.get("tokens"))
        anew = ids is None
        if anew:
            ids, log_probs = self._ids_of_text(choice, policy, asked), None
        if not isinstance(ids, list) or any(_whole(token) is None for token in ids):
            raise self._no_answer(f"the token ids {str(ids)[:60]}")
        ids = [int(token) for token in ids]
        strange = next((token for token in ids if not 0 <= token < policy.vocabulary_size), None)
        if strange is not None:
            raise self._no_answer(
                f"the token {strange}, and the policy has {policy.vocabulary_size}: it serves another model"
            )
        ids, log_probs = self._ended(ids, log_probs, choice, asked, exact=not anew)
        if log_probs is None:
            return _Response(ids, None)
        if (
            not isinstance(log_probs, list)
            or len(log_probs) != len(ids)
            or not all(isinstance(value, int | float) and math.isfinite(value) for value in log_probs)
        ):
            raise self._no_answer(f"the log-probs {str(log_probs)[:60]} of {len(ids)} tokens")
        return _Response(ids, [float(value) for value in log_probs])

    def _ids_of_text(self, choice: dict[str, Any], policy: CausalLMPolicy, asked: Asked) -> list[int]:
        """Find the tokens of a text, if that is what the user wants."""
        text = choice.get("text")
        if not self._retokenise or not isinstance(text, str):
            raise UserError(
                f"the completions server at {self._url} gives no token ids (it needs vLLM 0.10.2, or SGLang of July "
                "2026); update it, or set retokenise=True to take those of the text, which need not be those drawn"
            )
        length = asked.shape[2]
        ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"][:length]
        if choice.get("finish_reason") == "stop" and len(ids) < length:
            ids = [*ids, *asked.end_ids[:1]]
        return [int(token) for token in ids]

    def _ended(
        self, ids: list[int], log_probs: Any, choice: dict[str, Any], asked: Asked, *, exact: bool
    ) -> tuple[list[int], Any]:
        """End a response as the policy would have: at its first end, or at its greatest length.

        Raises:
            UserError: it ends elsewhere, so that it is no response of the policy's distribution.
        """
        length = asked.shape[2]
        end = next((place for place, token in enumerate(ids) if token in asked.end_ids), None)
        if end is None and choice.get("finish_reason") == "stop" and len(ids) < length:
            # Some servers leave the end out of what they return, and say which it was.
            named = choice.get("stop_reason", choice.get("matched_stop"))
            if _whole(named) is not None and named in asked.end_ids:
                whole = isinstance(log_probs, list) and len(log_probs) == len(ids) + 1
                return [*ids, int(named)], log_probs if whole else None
        if len(ids) > length or (end is not None and end + 1 < len(ids)):
            raise self._no_answer(f"{len(ids)} tokens where a response ends after {length if end is None else end + 1}")
        if end is None and len(ids) < length and (exact or not ids):
            raise self._no_answer(
                f"a response that ends after {len(ids)} of {length} tokens without an end of the policy's (its "
                f"finish_reason is {choice.get('finish_reason')!r}): its context is shorter, or its ends are others"
            )
        return ids, log_probs

    def _check_different(self, tokens: torch.Tensor, log_prob: torch.Tensor) -> None:
        """Refuse responses that are all equal where that is no coincidence: each was drawn with the same seed."""
        first = tokens[:, :1]
        if not (tokens == first).all():
            return
        if float(log_prob[:, 1:].double().sum()) < _NO_COINCIDENCE:
            raise UserError(
                f"the completions server at {self._url} gave {tokens.shape[1]} equal responses to every prompt, which "
                "their log-probs make no coincidence: it draws them from one seed; set one_by_one=True, or have it "
                "heed seeds"
            )


class _Response(NamedTuple):
    """One response: its token ids with the end, and their log-probs where they are known."""

    ids: list[int]
    log_probs: list[float] | None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses to follow: a request that is sent on would be another one, and would take the key along."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _address(url: object) -> str:
    """Find where completions are asked for."""
    text = checks.text("url", url).strip().rstrip("/")
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is none
        # A name and password in it would stand in every sentence about it.
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
    except ValueError:
        usable = False
    if not usable:
        shown = repr(url) if "@" not in text else "one with a name in it"
        raise UserError(f"url is {shown}, expected the address of a server, such as http://localhost:8000/v1")
    return text if text.endswith("/completions") else f"{text}/completions"


def _key(given: object) -> str | None:
    """Find the key itself; "$NAME" is that of an environment variable."""
    if given is None:
        return None
    text = checks.text("api_key", given)
    if not text.startswith("$"):
        return text
    found = os.environ.get(text[1:])
    if not found:
        raise UserError(f"api_key is {text!r}, and the environment has no {text[1:]}; set it")
    return found


def _broken(reason: object) -> bool:
    """Tell whether a connection was there and broke, which says nothing against trying again."""
    # A server that closes without a word is a ConnectionResetError to Python too.
    return isinstance(
        reason, ConnectionResetError | BrokenPipeError | ConnectionAbortedError | http.client.IncompleteRead
    )


def _seconds(text: str | None) -> float:
    """Read how long a server asks to wait; 0 where it names a date or nothing."""
    try:
        seconds = float(text or 0)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _message(error: urllib.error.HTTPError) -> str:
    """Put what a server says of its error in one line."""
    try:
        text = error.read(4096).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        text = ""
    try:
        said: Any = json.loads(text)
        said = said.get("error", said)  # OpenAI and vLLM nest it, SGLang does not
        text = str(said.get("message", said) if isinstance(said, dict) else said)
    except (ValueError, AttributeError):
        pass
    return " ".join(text.split())[:200] or str(error.reason)


def _whole(value: object) -> int | None:
    """Read a whole number, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _ids_in_names(names: object) -> list[int] | None:
    """Read token ids where a server writes its tokens as "token_id:123"."""
    if not isinstance(names, list) or not names:
        return None
    ids = [name.removeprefix("token_id:") for name in names if isinstance(name, str) and name.startswith("token_id:")]
    if len(ids) != len(names) or not all(each.isdecimal() for each in ids):
        return None
    return [int(each) for each in ids]
