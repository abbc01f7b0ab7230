"""Files choose a model by its name in a table, and can choose nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ganblocks.errors import CheckpointError
from ganblocks.models import progan
from ganblocks.models.config import ModelConfig
from ganblocks.models.registry import GENERATORS, generator_from_metadata

CONFIG = progan.ProGANConfig.karras2018(8, latent_dim=4, base_channels=16, max_channels=4, image_channels=1)


def test_the_described_generator_comes_with_every_field_of_its_configuration() -> None:
    metadata = json.loads(json.dumps({"model": "progan", "config": CONFIG.to_dict(), "phase": {"resolution": 4}}))
    generator = generator_from_metadata(metadata)
    assert type(generator) is progan.Generator
    assert generator.config == CONFIG
    generator.load_state_dict(progan.Generator(CONFIG).state_dict())


def test_checkpoints_from_before_models_had_names_are_progan() -> None:
    assert isinstance(generator_from_metadata({"config": CONFIG.to_dict()}), progan.Generator)


def test_a_huge_configuration_takes_no_memory_on_the_meta_device() -> None:
    config = CONFIG.replace(base_channels=10**6, max_channels=10**6)  # 36 TB for a 3x3 convolution
    with torch.device("meta"):
        generator = generator_from_metadata({"model": "progan", "config": config.to_dict()})
    assert {parameter.device.type for parameter in generator.parameters()} == {"meta"}


def test_every_model_of_the_table_has_a_configuration_that_goes_through_json() -> None:
    assert "progan" in GENERATORS
    for config_type, build in GENERATORS.values():
        assert issubclass(config_type, ModelConfig)
        assert callable(build)


@pytest.mark.parametrize("name", ["biggan", "", "Progan", "os.system", "ganblocks.models.progan", None, 3, ["progan"]])
def test_an_unknown_name_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(CheckpointError, match=r"the model is .*, but this ganblocks knows: progan"):
        generator_from_metadata({"model": name, "config": CONFIG.to_dict()})


@pytest.mark.parametrize("metadata", [{}, {"model": "progan"}, {"config": None}, {"config": [1]}, {"seed": 1}])
def test_without_a_configuration_the_metadata_are_named(metadata: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"known: progan.*but hold \[") as caught:
        generator_from_metadata(metadata)
    assert all(repr(key) in str(caught.value) for key in metadata)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolution": 48}, "`resolution` is 48"),
        ({"resolution": "8"}, "does not fit the model 'progan'"),
        ({"depth": 3}, "depth"),
        ({"max_channels": None}, "does not fit the model 'progan'"),
        ({"max_channels": 2.5}, "does not fit the model 'progan'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        generator_from_metadata({"model": "progan", "config": {**CONFIG.to_dict(), **change}})


def test_the_main_example_writes_a_name_of_the_table() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "progan_celeba.py"
    assert '"model": "progan",' in example.read_text(encoding="utf-8")
