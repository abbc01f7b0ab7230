"""What names a network on the command line leads to that network."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from ganblocks.cli import extractors
from ganblocks.cli.extractors import open_extractor
from ganblocks.errors import SecurityError
from ganblocks.metrics import random_extractor
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier

CPU = torch.device("cpu")


@pytest.mark.parametrize("channels", [1, 3])
def test_random_needs_no_file(channels: int) -> None:
    opened = open_extractor("random", image_channels=channels, device=CPU)
    assert opened.fingerprint == random_extractor(channels).fingerprint


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_come_from_either_kind_of_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    weights = nn.Linear(2, 3).state_dict()
    file = tmp_path / f"weights{suffix}"
    safetensors.torch.save_file(weights, file) if suffix == ".safetensors" else torch.save(weights, file)
    seen = {}

    def record(weights: object, device: torch.device) -> str:
        seen.update(weights=weights, device=device)
        return "an extractor"

    monkeypatch.setitem(extractors._WITH_WEIGHTS, "vgg16", record)
    assert open_extractor(f"vgg16={file}", image_channels=3, device=CPU) == "an extractor"
    if suffix == ".safetensors":
        assert seen == {"weights": file, "device": CPU}
    else:
        assert all(torch.equal(tensor, weights[name]) for name, tensor in seen["weights"].items())


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "network.pth")  # a whole module, not its tensors
    with pytest.raises(SecurityError, match=r"network\.pth"):
        open_extractor(f"inception={tmp_path / 'network.pth'}", image_channels=3, device=CPU)


def test_the_classifier_of_a_run_is_read(tmp_path: Path) -> None:
    config = ClassifierConfig(resolution=8, channels=(2, 3), feature_dim=4)
    model = SmallClassifier(config)
    import json

    safetensors.torch.save_file(
        model.state_dict(), tmp_path / "c.safetensors", {"model": "classifier", "config": json.dumps(config.to_dict())}
    )
    opened = open_extractor(f"classifier={tmp_path / 'c.safetensors'}", image_channels=1, device=CPU)
    found = opened(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    assert found.features.shape == (2, 4)
    assert found.logits is not None


@pytest.mark.parametrize("text", ["", "vgg16", "vgg16=", "random=x", "classifier", "alexnet=file"])
def test_anything_else_is_told_what_there_is(text: str) -> None:
    with pytest.raises(ValueError, match="must be one of random, inception=FILE"):
        open_extractor(text, image_channels=3, device=CPU)
