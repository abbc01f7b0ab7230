"""What steps are built from."""

import pytest
import torch

from ganblocks.training.steps import latent_sampler


def test_latent_samplers() -> None:
    rng = torch.Generator().manual_seed(0)
    assert latent_sampler(5)(3, rng).shape == (3, 5)
    truncated = latent_sampler(5, "truncnorm", truncation=0.7)(1000, rng)
    assert truncated.abs().max() <= 0.7
    assert truncated.abs().max() > 0.69
    with pytest.raises(ValueError, match="`kind`"):
        latent_sampler(5, "uniform")
