"""What a request may cost at most before it is sent, and what it did cost, by the service's own count of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.oracles.services.spending import Cost

#: Tokens that chat templates put around each message, and at the end: more than any known one does.
_AROUND: Final = 16


@dataclass(frozen=True)
class Prices:
    """Of a million tokens, in any currency.

    Attributes:
        input: Of what is sent.
        output: Of what comes back.
    """

    input: float = 0.0
    output: float = 0.0

    def most(self, messages: Sequence[Mapping[str, str]], parameters: Mapping[str, Any]) -> Cost:
        """Find the most that a request may cost.

        No tokeniser that falls back to bytes makes more tokens than there are bytes, so bytes are what is counted; it
        is three to five times too many, and corrected when the answer is there.

        Args:
            messages: Of the request.
            parameters: Of it; `max_completion_tokens` or `max_tokens` bound what comes back.
        """
        sent = sum(len(one["content"].encode("utf-8", "replace")) + _AROUND for one in messages) + _AROUND
        return self.of(sent, longest_reply(parameters))

    def spent(self, answer: Any) -> Cost | None:
        """Find what an answer did cost; None where it does not say."""
        usage = answer.get("usage") if isinstance(answer, Mapping) else None
        if not isinstance(usage, Mapping):
            return None
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        # vLLM leaves the second out, or null, where nothing was written.
        counts[1] = 0 if counts[1] is None else counts[1]
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in counts):
            return None
        return self.of(*counts)  # type: ignore[arg-type]

    def of(self, sent: int, written: int) -> Cost:
        """Price so many tokens."""
        return Cost(sent + written, (sent * self.input + written * self.output) / 1e6)


def read_prices(given: object) -> Prices:
    """Read prices of a setting: `{input: 0.15, output: 0.6}`, or nothing.

    Raises:
        UserError: Anything else.
    """
    if given is None:
        return Prices()
    settings = checks.mapping("price", given)
    checks.refuse_unknown("price", settings, ("input", "output"))
    if len(settings) != 2:
        raise UserError(f"price is {given!r}, expected {{input: X, output: Y}} for a million tokens; give both")
    return Prices(*(checks.number(f"price.{name}", settings[name], low=0.0) for name in ("input", "output")))


def longest_reply(parameters: Mapping[str, Any]) -> int:
    """Find the most tokens that a reply may have, by a request's parameters."""
    return int(parameters.get("max_completion_tokens") or parameters.get("max_tokens") or 0)
