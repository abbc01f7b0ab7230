"""The sampling layer."""

import pytest
import torch

from ganblocks.functional.latent import reparameterize
from ganblocks.layers.sampling import Reparameterize


def test_the_layer_is_the_function_with_its_standard_deviation():
    mean, log_var, noise = torch.randn(3, 2, 4)
    layer = Reparameterize(0.3)
    assert torch.equal(layer(mean, log_var, noise=noise), reparameterize(mean, log_var, epsilon_std=0.3, noise=noise))
    drawn = layer(mean, log_var, generator=torch.Generator().manual_seed(1))
    expected = reparameterize(mean, log_var, epsilon_std=0.3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, expected)


@pytest.mark.parametrize("training", [True, False])
def test_the_layer_samples_in_every_mode(training):
    layer = Reparameterize().train(training)
    mean = torch.zeros(2, 4)
    assert not torch.equal(layer(mean, mean), layer(mean, mean))


def test_zero_noise_gives_the_mean():
    mean = torch.randn(2, 4)
    assert torch.equal(Reparameterize(0.0)(mean, mean), mean)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`epsilon_std` is -1"):
        Reparameterize(-1)
    with pytest.raises(ValueError, match="`log_var` has shape"):
        Reparameterize()(torch.zeros(2, 3), torch.zeros(2, 1))


def test_the_printout_shows_the_standard_deviation_and_nothing_is_saved():
    assert repr(Reparameterize(0.5)) == "Reparameterize(epsilon_std=0.5)"
    assert Reparameterize().state_dict() == {}
