"""The one way this library reads JSON that somebody else may have written."""

import json
import math
from typing import Any

__all__ = ["read_json"]


def read_json(text: str | bytes) -> Any:
    """What a JSON text says, in plain Python values.

    Stricter than ``json.loads``: what other readers refuse or understand otherwise is an error here.

    Args:
        text: The text, or its bytes in UTF-8, 16 or 32.

    Raises:
        ValueError: It is no JSON, holds NaN, an infinity, a number beyond float64 or a key twice, or is nested deeper
            than Python can follow.
    """
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_without_duplicates,
        )
    except RecursionError:
        raise ValueError("the text is nested too deeply to be JSON of ours") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is beyond all floating-point numbers")
    return value


def _whole(digits: str) -> int:
    _finite(digits)
    return int(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has one key twice")
    return values
