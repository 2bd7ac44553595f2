"""What can be done with recorded pairs alone: how well they are predicted where they are held out, and what to run.

A pair is held out with all others of its prompt. Ties teach, and do not count where accuracy is measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from duelenv.data import Pairs, load_pairs
from duelenv.ground import checks
from duelenv.ground.errors import UserError
from duelenv.ground.randomness import stream
from duelenv.ground.terminal import printable
from duelenv.text_features import TextFeatures

__all__ = ["HeldOut", "Prediction", "about_pairs", "export_pairs", "hold_out", "longer", "predicted_by_belief"]

_DRAWS = 128
_UPDATES = 4
"""Of a belief: its prior is fitted a few steps at each."""


@dataclass(frozen=True)
class HeldOut:
    """Pairs to learn from, and pairs of other prompts to predict.

    Attributes:
        train: int64, places in `Pairs`.
        test: int64, likewise; without ties.
        prompts: Distinct prompts among `test`.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    prompts: int


@dataclass(frozen=True)
class Prediction:
    """How well something predicts which response was preferred.

    Attributes:
        name: What predicts.
        accuracy: Share of the pairs whose preferred response it gives more than 1/2; exactly 1/2 counts half.
        low: Of the 95 % interval of the accuracy, in which the pairs of one prompt count as one draw.
        high: Likewise.
        log_loss: Mean -log of the probability that it gives the preferred response, in nats; None for a mere choice.
    """

    name: str
    accuracy: float
    low: float
    high: float
    log_loss: float | None


def hold_out(pairs: Pairs, test_share: float = 0.3, limit: int = 20_000) -> HeldOut:
    """Split pairs by their prompts, by a checksum that depends on neither order nor preference.

    Args:
        pairs: All of them.
        test_share: Share of the distinct prompts that is held out.
        limit: Most pairs on either side.

    Raises:
        UserError: Fewer than two prompts, nothing but ties among what is held out, or a setting out of range.
    """
    checks.number("test_share", test_share, above=0.0, below=1.0)
    checks.integer("limit", limit, low=1)
    order = sorted(set(pairs.prompts), key=lambda prompt: (zlib.crc32(prompt.encode(errors="surrogatepass")), prompt))
    if len(order) < 2:
        raise UserError("all pairs have the same prompt, so that none can be held out; give pairs of several prompts")
    held = set(order[: min(len(order) - 1, max(1, round(test_share * len(order))))])
    of_test = np.array([prompt in held for prompt in pairs.prompts])
    decided = np.ones(len(pairs), bool) if pairs.labels is None else pairs.labels != 0.5
    train, test = np.flatnonzero(~of_test)[:limit], np.flatnonzero(of_test & decided)[:limit]
    if not len(test):
        raise UserError("the held-out pairs are all ties, so that there is nothing to predict; raise test_share")
    return HeldOut(train, test, len({pairs.prompts[place] for place in test}))


def judged(
    name: str, probabilities: NDArray[np.float64], prompts: Sequence[str], *, says_how_likely: bool = True
) -> Prediction:
    """Return how good predictions are.

    Args:
        name: What made them.
        probabilities: float64 [N], of what turned out to be preferred.
        prompts: The N prompts. The pairs of one prompt share responses, and so count as one draw: the interval is that
            of Wilson (1927) with as many pairs as independent ones would have the same variance (Kish 1965, 8.2).
        says_how_likely: Whether they are more than a choice.
    """
    hits = np.where(probabilities == 0.5, 0.5, probabilities > 0.5)
    accuracy = float(hits.mean())
    places = np.unique(np.array(list(prompts), dtype=object).astype(str), return_inverse=True)[1].ravel()
    spread, clustered = ((hits - accuracy) ** 2).sum(), (np.bincount(places, hits - accuracy) ** 2).sum()
    count = len(hits) / max(1.0, clustered / spread) if spread else float(places.max() + 1)
    z = stats.norm.ppf(0.975)
    middle = (accuracy + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(accuracy * (1 - accuracy) / count + z**2 / (4 * count**2))
    # What is certain and wrong costs as much as float32 can say.
    loss = float(-np.log(np.clip(probabilities, 1e-7, 1.0)).mean()) if says_how_likely else None
    return Prediction(name, accuracy, max(0.0, float(middle - half)), min(1.0, float(middle + half)), loss)


def longer(pairs: Pairs, places: NDArray[np.int64]) -> Prediction:
    """Return how well the longer response is the preferred one, in characters."""
    lengths = np.array([(len(pairs.chosen[place]), len(pairs.rejected[place])) for place in places])
    better = 0.5 + 0.5 * np.sign(lengths[:, 0] - lengths[:, 1])
    return judged("the longer response", better, [pairs.prompts[place] for place in places], says_how_likely=False)


def predicted_by_belief(pairs: Pairs, split: HeldOut, dim: int = 64) -> Prediction:
    """Return how well a belief that learnt from the other pairs predicts those that are held out.

    It is the belief of worlds of texts, `laplace`, on features of the texts alone, which read no preference.

    Args:
        pairs: All of them.
        split: Which are held out.
        dim: Number of features.
    """
    from duelenv.agents.beliefs.laplace import LastLayerLaplace

    every = np.concatenate([split.train, split.test])
    # Whether the preferred response comes first must not tell.
    turned = stream(0, "pairs/order").random(len(every)) < 0.5
    texts = [
        (pairs.rejected[place], pairs.chosen[place]) if turn else (pairs.chosen[place], pairs.rejected[place])
        for place, turn in zip(every, turned, strict=True)
    ]
    features = TextFeatures(dim)([pairs.prompts[place] for place in every], texts)
    shares = np.ones(len(every)) if pairs.labels is None else pairs.labels[every]
    labels = np.where(turned, 1.0 - shares, shares)
    count = len(split.train)
    belief = LastLayerLaplace(dim, batch=len(split.test), root=0)
    for part in np.array_split(stream(0, "pairs/updates").permutation(count), min(_UPDATES, count)):
        belief.update(features[part, 0], features[part, 1], labels[part])
    draws = belief.sample(features[count:], _DRAWS)
    first = (1.0 / (1.0 + np.exp(draws[:, :, 1] - draws[:, :, 0]))).mean(axis=0)
    return judged(
        f"belief laplace, after {count:,} pairs",
        np.where(turned[count:], 1.0 - first, first).astype(np.float64),
        [pairs.prompts[place] for place in split.test],
    )


def predicted_by_oracle(pairs: Pairs, places: NDArray[np.int64], settings: Mapping[str, Any]) -> Prediction:
    """Return how well an oracle, such as a reward model, predicts pairs.

    Args:
        pairs: The pairs.
        places: Which of them.
        settings: The oracle's name as `name`, and its settings.

    Raises:
        UserError: No such oracle, one that answers later, or one that cannot answer.
    """
    from duelenv import oracles

    given = dict(settings)
    name = checks.text("'oracle.name'", given.pop("name", None))
    oracle = oracles.make(name, **given)
    if not callable(oracle):
        raise UserError(f"the oracle {name!r} answers later, and pairs are judged at once; choose one that does so")
    turned = stream(0, "pairs/order").random(len(places)) < 0.5
    chosen, rejected = ([texts[place] for place in places] for texts in (pairs.chosen, pairs.rejected))
    first = [b if turn else a for a, b, turn in zip(chosen, rejected, turned, strict=True)]
    second = [a if turn else b for a, b, turn in zip(chosen, rejected, turned, strict=True)]
    answer = oracles.ask(oracle, [pairs.prompts[place] for place in places], first, second)
    label: NDArray[np.float64] = np.where(turned, 1.0 - answer.expected_label, answer.expected_label)
    answered = np.flatnonzero(np.isfinite(label))
    if not len(answered):
        raise UserError(f"the oracle {name!r} can answer none of {len(places)} pairs; leave it out")
    lacking = len(places) - len(answered)
    without = f", {lacking:,} pairs unanswered" if lacking else ""
    return judged(f"oracle {name}{without}", label[answered], [pairs.prompts[place] for place in places[answered]])


def about_pairs(
    path: Path | str,
    *,
    oracle: Mapping[str, Any] | None = None,
    test_share: float = 0.3,
    limit: int = 20_000,
    export: Path | None = None,
    **settings: Any,
) -> str:
    """Return in words what a table of pairs holds, how well it is predicted, and what can be done with it.

    Args:
        path: The table.
        oracle: An oracle that is to predict the pairs too, by `name` and settings.
        test_share: Share of the prompts that is held out.
        limit: Most pairs to learn from, and to predict.
        export: Where to write the pairs as prompt, first, second and label.
        settings: Those of `duelenv.data.load_pairs`.

    Raises:
        UserError: As `load_pairs`, `hold_out` and the oracle do.
    """
    known = [*(load_pairs.__kwdefaults__ or ()), "test_share", "limit"]
    checks.refuse_unknown("pairs", settings, known)
    if oracle is not None:
        oracle = checks.mapping("'oracle'", oracle)
    pairs = load_pairs(path, **settings)
    split = hold_out(pairs, test_share, limit)
    found = [longer(pairs, split.test)]
    if len(split.train) > 1:
        found.append(predicted_by_belief(pairs, split))
    if oracle is not None:
        found.append(predicted_by_oracle(pairs, split.test, oracle))
    if export is not None:
        export_pairs(pairs, export)
    name = printable(str(export or path))
    plain = export is not None or not settings
    lines = [
        *_contents(pairs),
        "",
        f"{f'{len(split.test):,} pairs of {split.prompts:,} held-out prompts':<44}{'accuracy':>10}{'95 %':>16}"
        f"{'log-loss':>10}",
        *map(_line, found),
        "",
        "What can be done with them:",
        f"  a warm start: every agent's belief and policy learn from them first    duelenv run CONFIG labels={name}",
        f"  their labels again, in a world of recorded responses                   duelenv run pool data={name}",
        "  a judge for runs of a policy: the oracle that predicts them best above, as oracle or evaluation_oracle",
    ]
    if not plain:
        lines.append("  (with --export FILE, since these settings are needed to read the table)")
    if pairs.margins is None:
        lines.append(
            "Caution: two responses to each prompt leave nothing to choose, so that a comparison of agents on labels "
            "played again finds no difference between those that duel two different responses."
        )
    return "\n".join(lines)


def _contents(pairs: Pairs) -> list[str]:
    ties = 0 if pairs.labels is None else int((pairs.labels == 0.5).sum())
    equal = sum(a == b for a, b in zip(pairs.chosen, pairs.rejected, strict=True))
    lines = [
        f"{len(pairs):,} pairs of {len(set(pairs.prompts)):,} prompts; {ties:,} ties, {equal:,} of two equal texts",
        f"read: {printable(pairs.reading)}",
    ]
    if pairs.margins is None:
        lines.append("margins: none recorded, so that every pair gets the same one (margin=..)")
    else:
        low, middle, high = np.quantile(pairs.margins, [0.0, 0.5, 1.0])
        against = int((pairs.margins < 0).sum())
        lines.append(f"margins: from {low:.3g} to {high:.3g}, median {middle:.3g}; {against:,} against the choice")
    for name, text in zip(("prompt", "chosen", "rejected"), (pairs.prompts, pairs.chosen, pairs.rejected), strict=True):
        shown = printable(text[0])
        lines.append(f"  {name:<9}{shown if len(shown) <= 90 else f'{shown[:87]}...'}")
    return lines


def _line(found: Prediction) -> str:
    loss = "" if found.log_loss is None else f"{found.log_loss:.3f}"
    interval = f"{found.low:.3f} to {found.high:.3f}"
    return f"  {found.name:<42}{found.accuracy:>10.3f}{interval:>16}{loss:>10}"


def export_pairs(pairs: Pairs, path: Path) -> None:
    """Write pairs as a table of labels, which every part of the package reads without a guess.

    Args:
        pairs: The pairs.
        path: A .parquet, .jsonl or .csv file: prompt, first, second, label.
    """
    import pyarrow as pa

    from duelenv.experiments.results.labels import write_table

    labels = np.ones(len(pairs)) if pairs.labels is None else pairs.labels
    columns = {"prompt": pairs.prompts, "first": pairs.chosen, "second": pairs.rejected, "label": labels.tolist()}
    if pairs.margins is not None:
        columns |= {"first_score": (pairs.margins / 2).tolist(), "second_score": (-pairs.margins / 2).tolist()}
    write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
