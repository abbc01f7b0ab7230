"""The numbers of the two architectures, and what a configuration refuses."""

import json

import pytest

from ganblocks.models.progan import ProGANConfig
from ganblocks.models.progan_config import ProGANConfig as Same


def test_is_the_one_of_the_model() -> None:
    assert ProGANConfig is Same


def test_resolutions_are_the_powers_of_two() -> None:
    assert ProGANConfig.karras2018(4).resolutions == (4,)
    assert ProGANConfig.karras2018(32).resolutions == (4, 8, 16, 32)


def test_overrides_win_over_the_preset() -> None:
    config = ProGANConfig.document(64, latent_dim=100, group_size=4)
    assert (config.latent_dim, config.group_size, config.unbiased) == (100, 4, True)
    assert config.replace(slope=0.1).slope == 0.1


@pytest.mark.parametrize("config", [ProGANConfig(), ProGANConfig.document(64, num_classes=7)])
def test_json_round_trip(config: ProGANConfig) -> None:
    assert ProGANConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["resolution"] == config.resolution


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resolution", 48),
        ("resolution", 2),
        ("resolution", 2048),
        ("latent_dim", 0),
        ("image_channels", 0),
        ("num_classes", -1),
        ("slope", 1.5),
        ("output_activation", "sigmoid"),
        ("block_order", "mixed"),
        ("base_channels", 100),
    ],
)
def test_values_out_of_range_are_named(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{field}`"):
        ProGANConfig(**{field: value})


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match="z_dim"):
        ProGANConfig.from_dict({"z_dim": 512})
    with pytest.raises(TypeError, match="JSON object"):
        ProGANConfig.from_json("[1]")
