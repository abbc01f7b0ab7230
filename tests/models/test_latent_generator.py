"""How generators are sampled."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from ganblocks.functional import normal_latents, truncated_normal_latents
from ganblocks.models.latent_generator import LatentGenerator
from tolerances import for_dtype


@dataclasses.dataclass(frozen=True)
class Config:
    latent_dim: int = 3
    num_classes: int = 0


class Toy(LatentGenerator):
    """Latents to images of one pixel; notes how it was called."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.latent_dim, 1).double()
        self.dropout = nn.Dropout(0.5).eval()
        self.calls: list[tuple[int, bool, bool]] = []

    def forward(self, latents: Tensor, labels: Tensor | None = None, *, shift: float = 0.0) -> Tensor:
        self.calls.append((len(latents), self.training, torch.is_grad_enabled()))
        images = self.linear(latents) + shift
        return (images if labels is None else images + labels[:, None])[:, :, None, None]


def test_latents_are_those_of_the_seed_with_the_dtype_of_the_weights() -> None:
    toy = Toy(Config())
    assert torch.equal(toy.sample_latents(4, seed=1), normal_latents(4, 3, seed=1, dtype=torch.float64))
    cut = truncated_normal_latents(4, 3, truncation=0.5, seed=1, dtype=torch.float64)
    assert torch.equal(toy.sample_latents(4, seed=1, truncation=0.5), cut)
    torch.manual_seed(0)
    assert not torch.equal(toy.sample_latents(4), toy.sample_latents(4))


def test_samples_are_made_in_parts_in_evaluation_mode_without_gradients_and_clamped() -> None:
    toy = Toy(Config())
    images = toy.sample(5, seed=2, batch_size=2)
    assert toy.calls == [(2, False, False), (2, False, False), (1, False, False)]
    assert toy.training
    assert not toy.dropout.training  # every layer has its own mode again
    expected = toy(toy.sample_latents(5, seed=2)).clamp(-1, 1).detach()
    torch.testing.assert_close(images, expected, **for_dtype(torch.float64))
    assert bool((toy.sample(3, seed=2, shift=10.0) == 1).all())


def test_classes_come_in_turn_or_as_given() -> None:
    toy = Toy(Config(num_classes=2))
    with torch.no_grad():
        toy.linear.weight.zero_()
        toy.linear.bias.zero_()
    assert toy.sample(5, batch_size=2).flatten().tolist() == [0, 1, 0, 1, 0]
    assert toy.sample(3, labels=torch.tensor([1, 1, 0])).flatten().tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match=r"`labels` is \(2,\), but must be \[3\]"):
        toy.sample(3, labels=torch.tensor([1, 1]))


@pytest.mark.parametrize("name", ["count", "batch_size"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is 0"):
        Toy(Config()).sample(**{"count": 2, name: 0})
