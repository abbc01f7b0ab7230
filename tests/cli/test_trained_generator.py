"""The generator of a run, as commands use it: its pictures are those of the model itself."""

from pathlib import Path

import pytest
import torch
from cli_runs import METADATA, average, networks, replace_newest

from ganblocks.cli.trained_generator import TrainedGenerator
from ganblocks.errors import CheckpointError, NonFiniteError
from ganblocks.functional import to_uint8
from ganblocks.models import dcgan
from ganblocks.models.dcgan import DCGANConfig
from ganblocks.models.progan import ProGANConfig

CPU = torch.device("cpu")


def test_pictures_are_those_of_the_averaged_generator(run: Path) -> None:
    generator = TrainedGenerator(run, CPU)
    assert (generator.images_seen, generator.side, generator.image_channels) == (2000, 8, 3)
    for truncation in (None, 0.5):
        batches = list(generator.pictures(70, seed=3, truncation=truncation))
        expected = average(run).sample(70, seed=3, resolution=8, alpha=0.5, truncation=truncation)
        assert torch.equal(torch.cat(batches), to_uint8(expected))
        assert len(batches) == 2


def test_without_a_phase_the_pictures_have_full_size(run: Path) -> None:
    config = ProGANConfig.karras2018(16, latent_dim=5, base_channels=32, max_channels=4)
    replace_newest(run, {"step": networks(config)}, {"config": config.to_dict(), "model": "progan", "phase": {}})
    assert next(TrainedGenerator(run, CPU).pictures(1, seed=0)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("phase", [{}, {"resolution": 8, "alpha": 0.5}])
def test_a_generator_that_does_not_grow_is_called_without_a_resolution(run: Path, phase: object) -> None:
    config = DCGANConfig(resolution=16, latent_dim=5, base_channels=4)
    torch.manual_seed(0)
    generator = dcgan.Generator(config)
    state = {"generator": generator.state_dict(), "discriminator": {}, "ema": None}
    replace_newest(run, {"step": state}, {"config": config.to_dict(), "model": "dcgan", "phase": phase})
    trained = TrainedGenerator(run, CPU)
    assert (trained.side, trained.image_channels) == (16, 1)
    assert torch.equal(next(trained.pictures(3, seed=1)), to_uint8(generator.sample(3, seed=1)))


@pytest.mark.parametrize(("ending", "dtype"), [("running_mean", torch.float64), ("weight", torch.int32)])
def test_weights_of_another_kind_are_refused(run: Path, ending: str, dtype: torch.dtype) -> None:
    config = DCGANConfig(resolution=16, latent_dim=5, base_channels=4)
    weights = dcgan.Generator(config).state_dict()
    name = next(name for name in weights if name.endswith(ending))
    weights[name] = weights[name].to(dtype)
    state = {"generator": weights, "discriminator": {}, "ema": None}
    replace_newest(run, {"step": state}, {"config": config.to_dict(), "model": "dcgan"})
    with pytest.raises(CheckpointError, match=f"{name}.*but must be torch.float32"):
        TrainedGenerator(run, CPU)


@pytest.mark.parametrize("phase", [3, {"resolution": "8"}, {"resolution": 8, "alpha": None}])
def test_a_phase_that_is_none_is_refused(run: Path, phase: object) -> None:
    config = ProGANConfig.karras2018(16, latent_dim=5, base_channels=32, max_channels=4)
    replace_newest(run, {"step": networks(config)}, {**METADATA, "config": config.to_dict(), "phase": phase})
    with pytest.raises(CheckpointError, match="phase"):
        TrainedGenerator(run, CPU)


def test_nan_is_no_picture(run: Path) -> None:
    generator = TrainedGenerator(run, CPU)
    with torch.no_grad():
        next(generator._generator.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="gives NaN"):
        next(generator.pictures(1, seed=0))
