"""The configuration of an R3GAN: its presets, what it says about itself, and what it refuses."""

import json
import math

import pytest
import torch

from ganblocks.models.r3gan_config import R3GANConfig
from tolerances import for_dtype


def test_json_there_and_back() -> None:
    for config in (R3GANConfig(), R3GANConfig.small64(num_classes=10), R3GANConfig(8, widths=(4, 2), group_size=1)):
        back = R3GANConfig.from_json(config.to_json())
        assert back == config
        assert isinstance(back.widths, tuple)
        assert hash(back) == hash(config)
    assert json.loads(R3GANConfig().to_json())["widths"] == [256, 192, 96, 32]


def test_presets_take_other_values() -> None:
    assert R3GANConfig.small32() == R3GANConfig()
    small64 = R3GANConfig.small64(image_channels=1, slope=0.1)
    assert (small64.resolution, small64.widths) == (64, (256, 256, 128, 64, 32))
    assert (small64.image_channels, small64.slope, small64.latent_dim) == (1, 0.1, 64)
    with pytest.raises(ValueError, match="depth"):
        R3GANConfig.small32(depth=3)


def test_sides_go_from_4_to_the_resolution() -> None:
    assert R3GANConfig(8, widths=(16, 16)).sides == (4, 8)
    assert R3GANConfig(256, widths=(16,) * 7).sides == (4, 8, 16, 32, 64, 128, 256)


@pytest.mark.parametrize(
    ("values", "gain"),
    [
        ({"slope": 1.0, "blocks_per_stage": 4}, 0.5),  # 16 blocks: the fourth root is 2
        ({"slope": 0.0, "blocks_per_stage": 1}, 1.0),  # sqrt(2) of He et al., 4 blocks
        ({"slope": 0.2, "blocks_per_stage": 2}, math.sqrt(2 / 1.04) / 8**0.25),
    ],
)
def test_gain_of_a_block_by_hand(values: dict[str, float], gain: float) -> None:
    assert math.isclose(R3GANConfig(**values).block_gain, gain, rel_tol=for_dtype(torch.float64)["rtol"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("resolution", value) for value in (0, 4, 28, 512, 32.0, True, "32")],
        *[("latent_dim", value) for value in (0, 4097, 64.0)],
        *[("image_channels", value) for value in (0, 65, True)],
        *[("num_classes", value) for value in (-1, 1025, False)],
        *[("widths", value) for value in (64, "wide", (256, 192, 96), (256, 192, 96, 32, 16), (256, 192, 96, 0))],
        *[("widths", value) for value in ((256, 192, 96, 32.0), (256, 192, 96, 4096), (256, 192, 96, True))],
        *[("blocks_per_stage", value) for value in (0, 65, 1.0)],
        *[("expansion", value) for value in (0, 17, 0.5)],
        *[("group_size", value) for value in (0, 5, 24, 128, 16.0)],
        *[("slope", value) for value in (-0.1, 1.1, math.nan, "0.2", True)],
    ],
)
def test_what_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is .*, but must be"):
        R3GANConfig.from_dict({name: value})


def test_the_groups_must_fill_every_stage() -> None:
    assert R3GANConfig(widths=(256, 192, 96, 24)).group_size == 16  # 48 = 3 * 16
    with pytest.raises(ValueError, match=r"`group_size` is 16, but must be a divisor of 2 times each of \(256, 192"):
        R3GANConfig(widths=(256, 192, 96, 20))
