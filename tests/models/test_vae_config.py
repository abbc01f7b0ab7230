"""The configuration of a VAE: what it says about itself, and what it refuses."""

import json

import pytest

from ganblocks.models.vae_config import VAEConfig


def test_json_there_and_back() -> None:
    for config in (
        VAEConfig(),
        VAEConfig.burda2016(),
        VAEConfig(channels=(8, 16), likelihood="gaussian", noise_std=0.5),
    ):
        assert VAEConfig.from_json(config.to_json()) == config
    assert json.loads(VAEConfig().to_json())["hidden_dims"] == [64]


def test_the_two_networks_of_the_literature() -> None:
    assert (VAEConfig().latent_dim, VAEConfig().hidden_dims, VAEConfig().activation) == (2, (64,), "relu")
    burda = VAEConfig.burda2016()
    assert (burda.latent_dim, burda.hidden_dims, burda.activation) == (50, (200, 200), "tanh")
    assert (burda.sampling, burda.epsilon_std, burda.image_shape) == ("log_var", 1.0, (1, 28, 28))


@pytest.mark.parametrize(
    ("name", "value", "others"),
    [
        ("resolution", 0, {}),
        ("resolution", 1025, {}),
        ("resolution", 28, {"channels": (4, 4, 4)}),
        ("image_channels", 0, {}),
        ("latent_dim", 2.0, {}),
        ("num_classes", -1, {}),
        ("hidden_dims", (64, 0), {}),
        ("channels", (True,), {}),
        ("activation", "gelu", {}),
        ("likelihood", "poisson", {}),
        ("sampling", "sigma", {}),
        ("initialization", "zeros", {}),
        ("noise_std", 1.0, {}),
        ("noise_std", 0.0, {"likelihood": "gaussian"}),
        ("epsilon_std", -0.1, {}),
        ("epsilon_std", float("nan"), {}),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: object, others: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is"):
        VAEConfig.from_dict({name: value, **others})
