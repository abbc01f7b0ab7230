"""What a trial gives, and the one rule by which a remedy is said to have helped."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

__all__ = ["Scale", "Symptom", "Trial", "verdict"]

MARGIN = 0.05  # a change below this share of the symptom's own value is none


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is computed.

    Attributes:
        seeds: Of what is trained.
        share: Of the steps and images of the full form, above 0 to 1.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    share: float = 1.0

    def steps(self, full: int) -> int:
        """As many as this scale has for so many in the full form, at least 2."""
        return max(2, round(full * self.share))


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to run a symptom.

    Attributes:
        name: What was changed, in a few words.
        values: By name of the measure, one for each seed (or a single one where nothing is drawn); ``None`` = there
            was nothing to measure, because the run had ended before.
        said: What the library said: the type of an error or the sign of a warning; empty = nothing.
    """

    name: str
    values: dict[str, list[float | None]]
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Symptom:
    """A symptom and what was tried against it.

    Attributes:
        key: Its name in the files.
        title: Its name in the tables.
        setting: How it was brought about, a sentence.
        judged_by: The measure that decides.
        better: Which way that is better, ``"higher"`` or ``"lower"``.
        units: Of each measure, as the header of its column.
        digits: Of each measure, a format such as ``".2f"``.
        trials: The first is the symptom, the others are what was tried.
        left_out: Why there is no trial here; empty = there are some.
    """

    key: str
    title: str
    setting: str
    judged_by: str
    better: str
    units: dict[str, str]
    digits: dict[str, str]
    trials: Sequence[Trial]
    left_out: str = ""


def verdict(symptom: Symptom, trial: Trial) -> str:
    """Whether a remedy helped, by the measure of its symptom.

    ``"yes"``: with every seed it is better than the symptom with any. ``"on average"``: its mean is better, the ranges
    overlap. ``"worse"``: as "yes", the other way. ``"no"``: anything else, and changes below 5 %.
    """
    sign = 1.0 if symptom.better == "higher" else -1.0
    before, after = (
        [-math.inf if value is None else sign * value for value in one.values[symptom.judged_by]]
        for one in (symptom.trials[0], trial)
    )  # what could not be measured is the worst there is
    margin = MARGIN * abs(statistics.fmean(before)) if all(map(math.isfinite, before)) else 0.0
    if min(after) > max(before) + margin:
        return "yes"
    if max(after) < min(before) - margin:
        return "worse"
    return "on average" if statistics.fmean(after) > statistics.fmean(before) + margin else "no"
