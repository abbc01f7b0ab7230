"""What all model configurations share: frozen, checked, and written to JSON and back."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self

from ganblocks._checks import require
from ganblocks._json import read_json

__all__ = ["ModelConfig"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Base of the configuration dataclasses of `ganblocks.models`."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them: a tuple is a list."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def to_json(self) -> str:
        """All fields as a JSON object, keys sorted."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a configuration from its fields; missing ones take their default.

        Raises:
            ValueError: If a name is not a field of this configuration, or a value is out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - names)
        require(not unknown, "values", unknown, f"fields of {cls.__name__}: {', '.join(sorted(names))}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build a configuration from the text that `to_json` gave.

        Raises:
            TypeError: If the text is JSON, but no object.
            ValueError: If the text is no JSON, or as in `from_dict`.
        """
        values = read_json(text)
        require(isinstance(values, dict), "text", text[:60], "a JSON object", TypeError)
        return cls.from_dict(values)

    def replace(self, **changes: Any) -> Self:
        """A copy with other values in the named fields."""
        return dataclasses.replace(self, **changes)
