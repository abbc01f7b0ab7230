"""Files choose a model by its name in a table, and can choose nothing else."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ganblocks.errors import CheckpointError
from ganblocks.metrics.extractors import classifier_extractor
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.models import progan
from ganblocks.models.backbone_classifier import BackboneClassifier, BackboneClassifierConfig
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.models.config import ModelConfig
from ganblocks.models.registry import (
    CLASSIFIERS,
    GENERATORS,
    MODELS,
    classifier_from_metadata,
    generator_from_metadata,
    load_classifier,
    model_from_metadata,
    name_in_files,
)
from tolerances import for_dtype

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
    assert {"classifier", "backbone_classifier"} <= CLASSIFIERS.keys()
    for config_type, build in (*GENERATORS.values(), *CLASSIFIERS.values()):
        assert issubclass(config_type, ModelConfig)
        assert callable(build)


@pytest.mark.parametrize("name", ["biggan", "", "Progan", "os.system", "ganblocks.models.progan", None, 3, ["progan"]])
def test_an_unknown_name_is_refused_with_the_known_ones(name: Any) -> None:
    with pytest.raises(CheckpointError, match=r"the model is .* knows: dcgan, infogan, progan, r3gan, wgan_gp"):
        generator_from_metadata({"model": name, "config": CONFIG.to_dict()})


@pytest.mark.parametrize("metadata", [{}, {"model": "progan"}, {"config": None}, {"config": [1]}, {"seed": 1}])
def test_without_a_configuration_the_metadata_are_named(metadata: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"known: dcgan, infogan, progan.*but hold \[") as caught:
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


SMALL = ClassifierConfig(resolution=8, num_classes=3, channels=(2, 3), feature_dim=4)


def write_classifier(path: Path, classifier: SmallClassifier | None = None, **changes: Any) -> SmallClassifier:
    """A file as a run leaves it: whatever is no text in its metadata is JSON."""
    classifier = classifier or SmallClassifier(SMALL)
    about = {"model": "classifier", "config": SMALL.to_json(), "val_accuracy": "0.5", **changes}
    weights = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    safetensors.torch.save_file(weights, path, {key: value for key, value in about.items() if value is not None})
    return classifier


def test_the_described_classifier_comes_with_every_field_of_its_configuration() -> None:
    metadata = json.loads(json.dumps({"model": "classifier", "config": SMALL.to_dict(), "classes": ["a", "b", "c"]}))
    model = classifier_from_metadata(metadata)
    assert type(model) is SmallClassifier
    assert model.config == SMALL
    model.load_state_dict(SmallClassifier(SMALL).state_dict())


@pytest.mark.parametrize("metadata", [{"config": SMALL.to_dict()}, {"model": "progan", "config": SMALL.to_dict()}])
def test_a_classifier_is_always_named(metadata: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="this ganblocks knows: backbone_classifier, classifier"):
        classifier_from_metadata(metadata)
    with pytest.raises(CheckpointError, match="how the classifier was built"):
        classifier_from_metadata({"model": "classifier"})
    with pytest.raises(CheckpointError, match="this ganblocks knows: dcgan, infogan, progan, r3gan, wgan_gp"):
        generator_from_metadata({"model": "classifier", "config": SMALL.to_dict()})


def test_a_classifier_comes_back_from_its_file_or_its_run(tmp_path: Path) -> None:
    model = SmallClassifier(SMALL)
    model(torch.rand(8, 1, 8, 8))  # running statistics other than those of the start
    write_classifier(tmp_path / "classifier.safetensors", model)
    images = torch.rand(5, 1, 8, 8)
    expected = model.eval()(images)
    for path in (tmp_path, tmp_path / "classifier.safetensors", str(tmp_path)):
        loaded = load_classifier(path)
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert torch.equal(loaded(images), expected)
        assert torch.equal(loaded.head(loaded.features(images)), expected)


def test_a_run_without_a_finished_classifier_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError, match="train to the end first"):
            load_classifier(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "classifier.safetensors")
        with pytest.raises(CheckpointError, match="there is no file"):
            load_classifier(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": SMALL.replace(feature_dim=5).to_json()}, "weights do not fit the configuration"),
        ({"config": SMALL.replace(feature_dim=10**9).to_json()}, "weights do not fit the configuration"),
        ({"config": SMALL.replace(channels=(2, 3, 4)).to_json()}, "weights do not fit the configuration"),
        ({"config": "{"}, "cannot be read as weights"),
        ({"config": "[" * 100_000}, "cannot be read as weights"),
        ({"config": "3"}, "how the classifier was built"),
        ({"config": None}, "how the classifier was built"),
        ({"config": '{"depth": 3}'}, "depth"),
        ({"config": '{"channels": 3}'}, "does not fit the model 'classifier'"),
        ({"model": None}, "the model is None"),
        ({"model": "os.system"}, "the model is 'os.system'"),
    ],
)
def test_a_description_that_does_not_fit_the_weights_is_told(tmp_path: Path, changes: Any, words: str) -> None:
    write_classifier(tmp_path / "a.safetensors", **changes)
    with pytest.raises(CheckpointError, match=words):
        load_classifier(tmp_path / "a.safetensors")


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for dtype in (torch.float16, torch.float64):
        write_classifier(path, SmallClassifier(SMALL).to(dtype))
        with pytest.raises(CheckpointError, match=r"is torch\.float\d\d, but must be torch\.float32"):
            load_classifier(path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", b"\xff" * 64):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            load_classifier(path)


def test_the_classifier_example_writes_a_name_of_the_table() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "classifier_mnist.py"
    assert '"model": "classifier",' in example.read_text(encoding="utf-8")


@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "regnet_y_400mf"])
def test_a_backbone_classifier_comes_back_with_the_constants_that_no_file_holds(tmp_path: Path, backbone: str) -> None:
    config = BackboneClassifierConfig(backbone=backbone, num_classes=3, hidden_dim=4, pooling="max")
    model = BackboneClassifier(config)
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    model(images)  # running statistics other than those of the start
    about = {"model": "backbone_classifier", "config": config.to_json()}
    safetensors.torch.save_file(model.state_dict(), tmp_path / "classifier.safetensors", about)
    expected = model.eval()(images)
    state = torch.get_rng_state()
    loaded = load_classifier(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is BackboneClassifier
    assert loaded.config == config
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded(images), expected)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    found = classifier_extractor(loaded, spec=InputSpec(32))(pixels)
    wanted = loaded.features(pixels.float() / 127.5 - 1)
    torch.testing.assert_close(found.features, wanted, **for_dtype(torch.float32))
    torch.testing.assert_close(found.logits, loaded.head(wanted), **for_dtype(torch.float32))


def test_a_huge_backbone_classifier_takes_no_memory_before_its_weights_confirm_it(tmp_path: Path) -> None:
    config = BackboneClassifierConfig(backbone="mobilenet_v3_small", hidden_dim=10**9)
    about = {"model": "backbone_classifier", "config": config.to_json()}
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", about)
    with pytest.raises(CheckpointError, match="weights do not fit the configuration"):
        load_classifier(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit the model 'backbone_classifier'.*resnet19"):
        classifier_from_metadata({"model": "backbone_classifier", "config": {"backbone": "resnet19"}})


def test_without_torchvision_a_backbone_classifier_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    metadata = {"model": "backbone_classifier", "config": BackboneClassifierConfig().to_dict()}
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[vision\]"'):
        classifier_from_metadata(metadata)


def test_every_model_of_every_kind_has_one_name() -> None:
    assert GENERATORS.items() | CLASSIFIERS.items() <= MODELS.items()
    assert len({build for _, build in MODELS.values()}) == len(MODELS)
    for name, config in (("progan", CONFIG), ("progan_discriminator", CONFIG), ("classifier", SMALL)):
        model = model_from_metadata({"model": name, "config": config.to_dict()})
        assert name_in_files(model) == name
        assert model.config == config
    with pytest.raises(CheckpointError, match=r"the model is None, but this ganblocks knows: .*vae, .*wgan_gp_critic"):
        model_from_metadata({"config": CONFIG.to_dict()})


def test_what_is_no_model_of_this_library_has_no_name_in_files() -> None:
    for stranger in (torch.nn.Linear(2, 2), torch.nn.Sequential(progan.Generator(CONFIG))):
        with pytest.raises(TypeError, match=r"`model` is a torch\.nn.*without a wrapper: .*progan_discriminator"):
            name_in_files(stranger)
