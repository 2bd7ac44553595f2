"""Two responses a row and a word, number, winner or count of votes that says which was preferred, in any usual coding.

What the coding is can often only be guessed: the guess is said, with the counts that it leads to and the setting that
says otherwise. A choice is a share in [0, 1]: 1 if the first response was preferred, 0 if the second, 0.5 a tie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duelenv.data.columns import is_blank, named_column, plain
from duelenv.data.scores import is_flag, numbers
from duelenv.data.tables import Table
from duelenv.ground.errors import UserError

_STEMS = (
    *("response", "answer", "completion", "output", "candidate", "conversation", "generation", "summary", "text"),
    *("human_ref", "message", "reply", "model_response", "model_output", "option", "assistant"),
)
_SUFFIXES = (("a", "b"), ("1", "2"), ("0", "1"), ("left", "right"), ("first", "second"))
_LABELS = (
    *("label", "labels", "preference", "preferred", "choice", "chosen", "winner", "better", "better_response_id"),
    *("overall_preference", "preference_strength", "human_preference", "human_choice", "best", "selected", "vote"),
    *("verdict", "judgment", "judgement", "preferred_response", "winning_response", "winner_id", "better_response"),
    *("annotation", "safer_response_id"),
)
_PLACES = ("choice", "winner", "better", "best", "selected", "preferred", "winner_id", "verdict", "vote", "chosen")
"""Labels that name a place: with 0 / 1, 0 is the first. Others say whether the first was preferred, as SHP's do."""
_SAYS = {"better", "best", "preferred", "wins", "win", "won", "winner", "chosen", "safe", "safer", "prefer"}
_VOTES = ("votes", "vote", "num_votes", "vote_count", "wins", "upvotes")
_SCORES = ("score", "rating", "reward", "overall_score", "utility", "quality")
_SIGNED = ("preference_strength", "overall_preference")
"""Labels of which 0 is a tie and that are below it where the first was preferred, as HelpSteer's are."""
_NOUNS = "(?:model|response|answer|assistant|output|option|candidate|completion|conversation|text|summary)"
_SUBJECT = re.compile(rf"^(?:the)?{_NOUNS}|^the(?=first|second|left|right)|(?<=[td]){_NOUNS}$")
_BETTER = re.compile(
    r"(?:is)?(?:slightly|somewhat|marginally|abit|much|far|clearly|strongly|significantly|considerably)*"
    r"(?:better|wins|won|preferred|vote)$"
)
_FIRST = {"a", "first", "left", "1st", "one", "a>b", "a>>b", "b<a", "b<<a"}
_SECOND = {"b", "second", "right", "2nd", "two", "b>a", "b>>a", "a<b", "a<<b"}
_TIES = {
    *(
        "tie",
        "ties",
        "tied",
        "c",
        "both",
        "equal",
        "equals",
        "same",
        "none",
        "draw",
        "neither",
        "tiebothbad",
        "bothbad",
    ),
    *("bothgood", "tiebothgood", "nopreference", "equallygood", "equallybad", "a=b", "a≈b", "aboutthesame", "ab"),
}
_TIE_BEGINNINGS = ("both", "neither", "equal", "tie", "same", "nopreference")


@dataclass(frozen=True)
class Choices:
    """What was said of two responses a row.

    Attributes:
        first: Column of the first responses.
        second: Column of the second ones.
        shares: For each row a number in [0, 1], see above; None where nothing was said.
        margins: For each row how much better the first is, in units of utility; None without scores.
        source: Columns that said so.
        notes: What was guessed.
    """

    first: str
    second: str
    shares: Sequence[float | None]
    margins: Sequence[float] | None
    source: str
    notes: tuple[str, ...]


def find_pair(table: Table, first: str | None = None, second: str | None = None) -> tuple[str, str] | None:
    """Return the columns of two responses: those named, or those with usual names, or None.

    Raises:
        UserError: No such column; only one is named; or a third one belongs to them.
    """
    if first is not None or second is not None:
        if first is None or second is None:
            given, missing = ("second", "first") if first is None else ("first", "second")
            raise UserError(f"{given}= is given without {missing}=; name the columns of both responses")
        if first == second:
            raise UserError(f"first= and second= are both {first!r}; name the columns of two responses")
        return named_column(table, "first", first), named_column(table, "second", second)
    known = {plain(name).replace("_", ""): name for name in table}
    found = _twins(known, (*_STEMS, ""), _SUFFIXES)
    if found is None:
        return None
    third = next((known[key] for key in _thirds(found) if key in known), None)
    if third is not None:
        raise UserError(
            f"{table.path} has more than two responses a row ({found[0]}, {found[1]}, {third}); write one response a "
            "row with its score, or name two with first= and second="
        )
    return found


def _twins(
    known: Mapping[str, str], stems: Sequence[str], suffixes: Sequence[tuple[str, str]]
) -> tuple[str, str] | None:
    for stem in stems:
        bare = stem.replace("_", "")
        for one, two in suffixes:
            if not bare and len(one) == 1:
                continue  # columns a and b may hold anything
            for keys in ((bare + one, bare + two), (one + bare, two + bare)):
                if keys[0] in known and keys[1] in known:
                    return known[keys[0]], known[keys[1]]
    return None


def _is_turned(pair: tuple[str, str]) -> bool:
    """Tell whether the second of two columns is the one that its name says comes first."""
    one, two = (plain(name).replace("_", "") for name in pair)
    return any(
        (one.endswith(second) and two == one.removesuffix(second) + first)
        or (one.startswith(second) and two == first + one.removeprefix(second))
        for first, second in _SUFFIXES
    )


def _thirds(pair: tuple[str, str]) -> list[str]:
    keys = [plain(name).replace("_", "") for name in pair]
    following = {"b": "c", "2": "3", "1": "2"}
    return [keys[1][:-1] + following[keys[1][-1]]] if keys[1][-1:] in following else []


def read_choices(
    table: Table,
    pair: tuple[str, str],
    *,
    label: str | None,
    first_wins: Any,
    first_score: str | None,
    second_score: str | None,
) -> Choices:
    """Return what a table says of its pairs.

    Args:
        table: The table.
        pair: Columns of the two responses.
        label: Column that says which was preferred; None looks for one, then for winners, votes and scores.
        first_wins: The label that says that the first was; None guesses the coding.
        first_score: Column of the first responses' scores, larger is better.
        second_score: Column of the others'.

    Raises:
        UserError: Nothing says which was preferred; or a value that no coding explains.
    """
    if (first_score is None) != (second_score is None):
        raise UserError("first_score= and second_score= belong together; give both, or none")
    if first_wins is None and first_score is None and _is_turned(pair):
        raise UserError(
            f"first={pair[0]} and second={pair[1]} are the other way round than their names, so that labels could mean "
            f"either; give first={pair[1]} and second={pair[0]}"
        )
    known = {plain(name).replace("_", ""): name for name in table if name not in pair}
    margins = None
    if first_score is not None and second_score is not None:
        margins = _difference(table, first_score, second_score)
    name = label if label is not None else _label_of(known) if margins is None else None
    if name is not None:
        if named_column(table, "label", name) in pair:
            raise UserError(f"label= is {name!r}, which holds responses; name the column that says which was preferred")
        shares, note = _coded(table, pair, name, first_wins)
        unused = None if margins is not None else _twins(known, _SCORES, _SUFFIXES)
        more = [f"{' and '.join(unused)} are not read; first_score=.. and second_score=.. do"] if unused else []
        return Choices(*pair, shares, margins, name, (note, *more))
    if first_wins is not None:
        raise UserError(f"first_wins is {first_wins!r} and no column holds labels; name it with label=..")
    if margins is not None:
        return Choices(*pair, _signs(margins), margins, f"{first_score} and {second_score}", ())
    winners = _twins(known, ("winner_model", "winner", "win"), _SUFFIXES)
    votes = _twins(known, _VOTES, _SUFFIXES)
    scores = _twins(known, _SCORES, _SUFFIXES)
    if winners is not None:
        shares = _shares(table, winners)
        return Choices(*pair, shares, None, " and ".join(winners), (_counted(winners, "says who won", pair, shares),))
    if votes is not None:
        shares = _shares(table, votes)
        return Choices(*pair, shares, None, " and ".join(votes), (_counted(votes, "count votes", pair, shares),))
    if scores is not None:
        margins = _difference(table, *scores)
        shares = _signs(margins)
        note = _counted(scores, "are scores, larger is better", pair, shares)
        return Choices(*pair, shares, margins, " and ".join(scores), (note,))
    raise UserError(
        f"{table.path} has two responses a row ({pair[0]}, {pair[1]}) and nothing that says which was preferred among "
        f"{', '.join(table)}; name a column with label=.., or scores with first_score=.. and second_score=.."
    )


def _label_of(known: Mapping[str, str]) -> str | None:
    return next((known[key] for name in _LABELS if (key := name.replace("_", "")) in known), None)


def _difference(table: Table, first: str, second: str) -> list[float]:
    for meaning, name in (("first_score", first), ("second_score", second)):
        named_column(table, meaning, name)
    margins: list[float] = (numbers(table, first) - numbers(table, second)).tolist()
    return margins


def _signs(margins: Sequence[float]) -> list[float | None]:
    return [_sign_share(margin) for margin in margins]


def _sign_share(margin: float) -> float:
    return 0.5 + 0.5 * (margin > 0) - 0.5 * (margin < 0)


def _shares(table: Table, names: tuple[str, str]) -> list[float | None]:
    counts = zip(*(numbers(table, name).tolist() for name in names), strict=True)
    return [_share(table, row, *pair) for row, pair in enumerate(counts)]


def _share(table: Table, row: int, first: float, second: float) -> float:
    if first < 0 or second < 0:
        raise UserError(f"{table.place(row)} has {min(first, second):g} votes, expected counts; correct it")
    return first / (first + second) if first + second else 0.5


def _counted(names: Sequence[str], what: str, pair: tuple[str, str], shares: Sequence[float | None]) -> str:
    said = [share for share in shares if share is not None]
    first, second = sum(share > 0.5 for share in said), sum(share < 0.5 for share in said)
    return (
        f"{' and '.join(map(repr, names))} {what}: {pair[0]!r} preferred {first} times, {pair[1]!r} {second}, ties "
        f"{len(said) - first - second}"
    )


# Codings of a label ---------------------------------------------------------------------------------------------------


def _coded(table: Table, pair: tuple[str, str], name: str, first_wins: Any) -> tuple[list[float | None], str]:
    values = [None if is_blank(value) else _number_or_word(value) for value in table[name]]
    distinct = {value for value in values if value is not None}
    if not distinct:
        raise UserError(
            f"{table.path} has nothing in {name!r}; name the column that says which was preferred: label=.."
        )
    if first_wins is not None:
        known, what = _by_setting(table, name, distinct, _meant(first_wins, distinct))
    elif all(isinstance(value, float) for value in distinct):
        known, what = _by_number(table, pair, name, distinct, any(map(is_flag, table[name])))
    else:
        known_names = {plain(column).replace("_", ""): column for column in table if column not in pair}
        writers = _twins(known_names, ("model", "responder", "generator", "model_name"), _SUFFIXES)
        pairs = [pair, writers] if writers else [pair]
        shares = [_by_word(table, pairs, name, row, value) for row, value in enumerate(values)]
        return shares, _counted((name,), "says it in words", pair, shares)
    shares = [None if value is None else known[value] for value in values]
    return shares, _counted((name,), f"says it as {what} (first_wins=.. says otherwise)", pair, shares)


def _number_or_word(value: Any) -> float | str:
    word = str(float(value) if isinstance(value, bool) else value).strip()
    try:
        return float(word) if math.isfinite(float(word)) else word
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(word.lower(), word)


def _meant(first_wins: Any, distinct: set[float | str]) -> float | str:
    """Return the label that `first_wins` is: YAML makes a truth value of the word yes, which the label may be."""
    if isinstance(first_wins, bool):
        words = ("yes", "y", "on") if first_wins else ("no", "n", "off")
        spelled = [value for value in distinct if isinstance(value, str) and value.lower() in words]
        if len(spelled) == 1:
            return spelled[0]
    return _number_or_word(first_wins)


def _by_setting(
    table: Table, name: str, distinct: set[float | str], wins: float | str
) -> tuple[dict[float | str, float], str]:
    values = sorted(value for value in distinct if isinstance(value, float))
    if isinstance(wins, float) and all(isinstance(value, float) or _squeezed(value) in _TIES for value in distinct):
        found = _by_side(values, wins)
        if found is not None:
            sided, what = found
            return {value: sided[value] if isinstance(value, float) else 0.5 for value in distinct}, what
    if wins not in distinct:
        shown = ", ".join(sorted(map(_shown, distinct))[:8])
        raise UserError(f"first_wins is {_shown(wins)!r}, expected one of the values in {name!r}: {shown}")
    others = {value for value in distinct if value != wins and not _is_tie(value, wins)}
    if len(others) > 1:
        raise UserError(
            f"{table.path} has {', '.join(sorted(map(_shown, others))[:8])} in {name!r} beside {_shown(wins)}, "
            "expected one value for the second response, and ties; recode it"
        )
    known = {value: 1.0 if value == wins else 0.0 if value in others else 0.5 for value in distinct}
    return known, f"{_shown(wins)} for the first"


def _by_side(values: Sequence[float], wins: float) -> tuple[dict[float, float], str] | None:
    """Return the shares of numbers that lie on a side of 0, between two ends, or on a scale; None for classes."""
    below = bool(values) and values[0] < 0
    if (wins and below) or (wins < 0 and max(values, default=0.0) <= 3):  # 3 is HelpSteer's end
        sign = "positive" if wins > 0 else "negative"
        return _sided(values, 0.0, wins), f"a {sign} number for the first"
    for ends in ((0.0, 1.0), (1.0, 2.0)):
        if wins in ends and all(ends[0] <= value <= ends[1] for value in values):
            other = sum(ends) - wins
            between = "" if {*values} <= {*ends} else ", between for doubt"
            return {value: abs(value - other) for value in values}, f"{wins:g} for the first, {other:g} not{between}"
    classes = {*values} <= {0.0, 1.0, 2.0} or {*values} <= {1.0, 2.0, 3.0}
    if classes or below or wins not in (values[0], values[-1]):
        return None
    middle = (values[0] + values[-1]) / 2
    return _sided(values, middle, wins), f"a scale whose middle is {middle:g}, {wins:g} for the first"


def _sided(values: Iterable[float], middle: float, wins: float) -> dict[float, float]:
    """Map numbers to shares by the side on which they lie: 1 on that of `wins`, 0 on the other, 0.5 in the middle."""
    sign = math.copysign(1.0, wins - middle)
    return {value: _sign_share((value - middle) * sign) for value in values}


def _is_tie(value: float | str, wins: float | str) -> bool:
    if isinstance(value, str):
        return _squeezed(value) in _TIES
    return not any({value, wins} <= known for known in ({0.0, 1.0}, {1.0, 2.0}))


def _shown(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else value


def _by_number(
    table: Table, pair: tuple[str, str], name: str, distinct: set[Any], flags: bool
) -> tuple[dict[Any, float], str]:
    places = [re.sub(r".*?(\d*)$", r"\1", plain(column)) for column in pair]
    one, two = (float(place) if place else math.nan for place in places)
    names_a_place = plain(name) in _PLACES or plain(name).endswith("_id")
    low, high = min(distinct), max(distinct)
    whole = all(value == int(value) for value in distinct)
    shown = ", ".join(_shown(value) for value in sorted(distinct)[:8])
    several = UserError(
        f"{table.path} has {shown} in {name!r}, which could mean several things; name the value for the first with "
        "first_wins=.. (1 or -1 if 0 is a tie, the end of a scale such as 1 to 7), or recode it as A, B and tie"
    )
    if 0 <= low and high <= 1 and _is_about_another(name, pair):
        raise several
    if (low < 0 and names_a_place) or (low >= 0 and whole and plain(name) in _SIGNED):
        raise several
    if low < 0:
        sign = -1.0 if "preference" in plain(name) else 1.0
        return _sided(distinct, 0.0, sign), f"a {'negative' if sign < 0 else 'positive'} number for the first"
    if flags:
        return {value: value for value in distinct}, "true for the first"
    if names_a_place and distinct == {1.0} and (one, two) not in ((0.0, 1.0), (1.0, 2.0)):
        raise several  # counted from 0, or from 1
    if whole and distinct <= {0.0, 1.0}:
        # A label of columns _0 and _1 is the place; so is the choice of columns A and B; 'label: 1' agrees with A.
        of_places = (names_a_place and (distinct != {1.0} or one == 0)) or (one, two) == (0.0, 1.0)
        first = 0.0 if of_places else 1.0
        return {value: float(value == first) for value in distinct}, f"{first:g} for the first"
    if whole and {0.0, 2.0} <= distinct <= {0.0, 1.0, 2.0} and (one, two) != (1.0, 2.0):
        return {value: {0.0: 1.0, 1.0: 0.0}.get(value, 0.5) for value in distinct}, "0 for the first, 1 for the second"
    if whole and distinct <= {0.0, 1.0, 2.0, 3.0} and not (3.0 in distinct and 0.0 in distinct):
        return {value: {1.0: 1.0, 2.0: 0.0}.get(value, 0.5) for value in distinct}, "1 for the first, 2 for the second"
    if 0 <= low and high <= 1 and (names_a_place or (one, two) == (0.0, 1.0)):
        raise several  # 1 for the second if all were 0 or 1
    if 0 <= low and high <= 1:
        return {value: value for value in distinct}, "the share that preferred the first"
    if 1 <= low and high <= 2:
        return {value: 2.0 - value for value in distinct}, "1 for the first, 2 for the second, between for doubt"
    raise several


def _is_about_another(name: str, pair: tuple[str, str]) -> bool:
    """Tell whether a column's name tells that it says something of the second response, or of ties: `b_preferred`."""
    words = set(plain(name).split("_"))
    first, second = ({plain(column).split("_")[-1]} for column in pair)
    if words & _SAYS:
        second |= {"b", "second", "right"}
        first |= {"a", "first", "left"}
    elif plain(pair[1]) not in plain(name):
        return bool(words & {"tie", "ties"})
    return bool(words & {"tie", "ties"} or (words & second and not words & first))


def _by_word(
    table: Table, pairs: Sequence[tuple[str, str]], name: str, row: int, value: float | str | None
) -> float | None:
    """Read a row's choice in words; `pairs` are the columns whose names or values, what is said may be."""
    if value is None:
        return None
    word = value.strip() if isinstance(value, str) else _shown(value)
    squeezed = _squeezed(word)
    ends = [_squeezed(plain(column))[-1:] for column in pairs[0]]
    letter = 1.0 if squeezed in _FIRST or squeezed == ends[0] else None
    letter = 0.0 if squeezed in _SECOND or squeezed == ends[1] else letter
    for first, second in pairs:
        says = [word in (column, table[column][row]) for column in (first, second)]
        share = 0.5 if all(says) else float(says[0])
        if any(says) and word not in (first, second) and letter not in (None, share):
            raise UserError(
                f"{table.place(row)} has {word[:40]!r} in {name!r}, which is a name of one side and what the other "
                f"holds in {(first, second)[letter == 1.0]!r}; recode it as {pairs[0][0]} and {pairs[0][1]}"
            )
        if any(says):
            return share
    if squeezed in _TIES or squeezed.startswith(_TIE_BEGINNINGS):
        return 0.5
    if letter is not None:
        return letter
    raise UserError(
        f"{table.place(row)} has {word[:40]!r} in {name!r}, expected words for the first, the second and a tie; "
        f"recode it as A, B and tie, or name the value for the first with first_wins=.."
    )


def _squeezed(word: str) -> str:
    """Write a word as the sets above do: "Response A is better than Response B", "[[A]]" and "model_a" are "a"."""
    squeezed = re.sub(r"(?![a-z0-9<>=])[\x00-\x7f]", "", word.lower().partition(" than ")[0])
    squeezed = _BETTER.sub("", squeezed)
    return _SUBJECT.sub("", squeezed) or squeezed
