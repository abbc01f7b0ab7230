"""What a metric returns: a number that knows how it was made, and refuses to be compared with one made otherwise."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ganblocks._checks import require
from ganblocks.errors import FingerprintMismatchError, MetricError

__all__ = ["Score", "require_same_fingerprint"]


@dataclass(frozen=True)
class Score:
    """One value of a metric.

    Two scores compare (``<``, ``>``, `difference`) only if name, counts and settings are equal: a Frechet distance from
    5,000 images is another quantity than one from 50,000, and so is one from features of another network.

    Args:
        name: Of the metric, in words joined by underscores, such as ``"frechet_distance"``.
        value: Finite.
        spread: One standard deviation over the metric's own repetitions (subsets, splits); ``None`` where it has none.
        counts: How many samples of each kind, such as ``{"real": 10000, "fake": 5000}``.
        settings: Whatever else decides what the number means: the options of the metric, and under ``"extractor"`` the
            fingerprint of the features. Text, numbers, truth values, ``None``, and lists of them.
        details: Further numbers worth showing, which do not count in a comparison.

    Raises:
        MetricError: The value, or the spread, is NaN or infinite.
        TypeError: The settings are not what JSON can hold.
    """

    name: str
    value: float
    spread: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or (self.spread is not None and not math.isfinite(self.spread)):
            raise MetricError(f"{self.name} is {self.value} with a spread of {self.spread}: no finite number")
        for name in ("counts", "settings", "details"):
            object.__setattr__(self, name, dict(getattr(self, name)))
        _canonical(self._identity())

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: SHA-256 over name, counts and settings. Equal if the scores may be compared."""
        return hashlib.sha256(_canonical(self._identity()).encode()).hexdigest()[:16]

    def difference(self, other: "Score", *, allow_mismatch: bool = False) -> float:
        """This value minus the other one.

        Args:
            other: Another score.
            allow_mismatch: Whether to compare although the two were made in different ways.

        Raises:
            FingerprintMismatchError: They were, and it is not allowed; names what differs.
        """
        if not allow_mismatch:
            require_same_fingerprint(self._identity(), other._identity(), f"two scores of {self.name}")
        return self.value - other.value

    def to_dict(self) -> dict[str, Any]:
        """All fields and the fingerprint, as JSON can hold them."""
        return {
            "name": self.name,
            "value": self.value,
            "spread": self.spread,
            "counts": dict(self.counts),
            "settings": dict(self.settings),
            "details": dict(self.details),
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """The score that `to_dict` described.

        Raises:
            ValueError: A field is missing, unknown or of a wrong kind, or the fingerprint is not that of the fields.
        """
        fields = dict(document)
        claimed = fields.pop("fingerprint", None)
        names = {"name", "value", "spread", "counts", "settings", "details"}
        require(fields.keys() == names, "document", sorted(fields), f"a mapping with the keys {sorted(names)}")
        require(isinstance(fields["name"], str), "name", fields["name"], "text")
        for name in ("value", "spread"):
            number = isinstance(fields[name], int | float) and not isinstance(fields[name], bool)
            require(number or (name == "spread" and fields[name] is None), name, fields[name], "a number")
        for name in ("counts", "settings", "details"):
            require(isinstance(fields[name], Mapping), name, fields[name], "a mapping")
        score = cls(**fields)
        require(claimed == score.fingerprint, "fingerprint", claimed, f"{score.fingerprint}, that of the other fields")
        return score

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ± {self.spread:.3g}"
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.counts.items())
        return f"{self.name} {self.value:.6g}{spread} ({counts + '; ' if counts else ''}fingerprint {self.fingerprint})"

    def __lt__(self, other: "Score") -> bool:
        return self.difference(other) < 0 if isinstance(other, Score) else NotImplemented

    def __gt__(self, other: "Score") -> bool:
        return self.difference(other) > 0 if isinstance(other, Score) else NotImplemented

    def __le__(self, other: "Score") -> bool:
        return self.difference(other) <= 0 if isinstance(other, Score) else NotImplemented

    def __ge__(self, other: "Score") -> bool:
        return self.difference(other) >= 0 if isinstance(other, Score) else NotImplemented

    def _identity(self) -> dict[str, Any]:
        return {"name": self.name, "counts": self.counts, "settings": self.settings}


def require_same_fingerprint(first: Mapping[str, Any], second: Mapping[str, Any], what: str) -> None:
    """Raise unless both were made in one way.

    Args:
        first: Settings by name; may be nested.
        second: Likewise.
        what: What is compared, for the message.

    Raises:
        FingerprintMismatchError: They differ; names every setting that does.
    """
    if _canonical(first) != _canonical(second):
        one, other = dict(_leaves(first)), dict(_leaves(second))
        names = dict.fromkeys([*one, *other])
        differing = [name for name in names if _canonical({"": one.get(name)}) != _canonical({"": other.get(name)})]
        lines = "; ".join(f"{name} {one.get(name)!r} against {other.get(name)!r}" for name in differing)
        raise FingerprintMismatchError(
            f"{what} were made in different ways and do not compare: {lines}. Measure both in one way, or say "
            "allow_mismatch=True"
        )


def _canonical(settings: Mapping[str, Any]) -> str:
    """One text for equal settings, the same on every machine."""
    try:
        return json.dumps(_plain(settings), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`settings` must be text, numbers, truth values, None, and lists of them: {error}") from error


def _plain(value: Any) -> Any:
    """The value with whole floats as integers: 1.0 and 1 are one setting."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _leaves(settings: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(settings, Mapping) and settings:
        return [
            leaf for key, value in settings.items() for leaf in _leaves(value, f"{prefix}.{key}" if prefix else key)
        ]
    return [(prefix, settings)]
