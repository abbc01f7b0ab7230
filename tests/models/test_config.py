"""Configurations are values: frozen, comparable, and the same after a trip through JSON."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.models.config import ModelConfig
from ganblocks.models.progan import ProGANConfig


@dataclasses.dataclass(frozen=True)
class Small(ModelConfig):
    width: int = 8
    slope: float = 0.2
    name: str = "plain"
    group_size: int | None = 4
    bias: bool = True


configs = st.builds(
    Small,
    width=st.integers(),
    slope=st.floats(allow_nan=False, allow_infinity=False),
    name=st.text(),
    group_size=st.one_of(st.none(), st.integers()),
    bias=st.booleans(),
)


@given(configs)
def test_json_and_back_is_the_same_configuration(config: Small) -> None:
    assert Small.from_json(config.to_json()) == config
    assert Small.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("preset", [ProGANConfig.karras2018, ProGANConfig.document])
def test_presets_survive_json(preset: object) -> None:
    config = preset(64, num_classes=3)  # type: ignore[operator]
    back = ProGANConfig.from_json(config.to_json())
    assert back == config
    assert isinstance(back, ProGANConfig)


def test_json_is_plain_and_sorted() -> None:
    text = Small(width=3).to_json()
    assert json.loads(text) == {"width": 3, "slope": 0.2, "name": "plain", "group_size": 4, "bias": True}
    assert list(json.loads(text)) == ["bias", "group_size", "name", "slope", "width"]


def test_missing_fields_take_their_default() -> None:
    assert Small.from_dict({"width": 1}) == Small(width=1)
    assert Small.from_json("{}") == Small()


def test_unknown_fields_are_named_together_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\['depth', 'with'\].*Small: bias, group_size, name, slope, width"):
        Small.from_dict({"with": 1, "depth": 2, "name": "x"})


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"resolution"'])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"`text` is .* a JSON object"):
        Small.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "{'width': 1}"])
def test_text_that_is_no_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        Small.from_json(text)


def test_values_are_checked_however_they_come_in() -> None:
    for build in (ProGANConfig.from_dict, lambda values: ProGANConfig.from_json(json.dumps(values))):
        with pytest.raises(ValueError, match="`resolution` is 48"):
            build({"resolution": 48})
    with pytest.raises(ValueError, match="`resolution` is 48"):
        ProGANConfig().replace(resolution=48)


def test_replace_gives_a_copy_and_nothing_can_be_assigned() -> None:
    config = Small()
    assert config.replace(width=9) == Small(width=9)
    assert config == Small()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.width = 9  # type: ignore[misc]


def test_equal_configurations_have_equal_hashes() -> None:
    assert len({Small(), Small(), Small(width=9)}) == 2
