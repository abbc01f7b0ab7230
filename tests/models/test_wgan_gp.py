"""The convolutional WGAN-GP against tables and plain networks of torch.nn, up to the gradient of its penalty."""

import copy
import json
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from ganblocks.functional import normal_latents, truncated_normal_latents
from ganblocks.losses import gradient_penalty
from ganblocks.models.wgan_gp import Critic, Generator, WGANGPConfig
from tolerances import for_dtype, named

RESOLUTIONS = (16, 32, 64, 128, 256, 512)


def small(resolution: int = 16, **overrides: object) -> WGANGPConfig:
    values = {"latent_dim": 5, "image_channels": 2, "base_channels": 2, "max_channels": 3, **overrides}
    return WGANGPConfig.document(resolution, **values)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_layer(module: nn.Module) -> list[int]:
    """Parameters of every layer that has some, in the order of the layers."""
    return [sum(p.numel() for p in m.parameters(recurse=False)) for m in module.modules() if m._parameters]


def map_shapes(network: nn.Module, *inputs: Tensor) -> list[tuple[int, ...]]:
    """[C, H, W] that each block gives, in the order of the calls."""
    seen: list[tuple[int, ...]] = []
    for block in network.blocks.children():
        block.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape[1:])))
    network(*inputs)
    return seen


def plain_critic() -> nn.Sequential:
    """That of `small(32)`, with the constants of the document, out of torch.nn."""
    activation = partial(nn.LeakyReLU, 0.2)
    return nn.Sequential(
        *[nn.Conv2d(2, 2, 4, 2, 1), activation()],
        *[nn.Conv2d(2, 3, 4, 2, 1), activation(), nn.Dropout(0.3)],
        *[nn.Conv2d(3, 3, 4, 2, 1), activation(), nn.Dropout(0.3)],
        *[nn.Flatten(), nn.Linear(3 * 4 * 4, 1), nn.Flatten(0)],
    ).double()


def plain_generator() -> nn.Sequential:
    """That of `small(32)`."""
    activation, norm = partial(nn.LeakyReLU, 0.2), partial(nn.BatchNorm2d, eps=1e-3, momentum=0.2)
    return nn.Sequential(
        *[nn.Linear(5, 3 * 8 * 8), activation(), nn.Unflatten(1, (3, 8, 8))],
        *[nn.ConvTranspose2d(3, 3, 4, 2, 1), norm(3), activation()],
        *[nn.ConvTranspose2d(3, 2, 4, 2, 1), norm(2), activation()],
        *[nn.ConvTranspose2d(2, 2, 3, 1, 1), nn.Tanh()],
    ).double()


def same_weights(network: nn.Module, plain: nn.Module) -> None:
    """Draw all parameters of both networks anew, the same in both."""
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        with torch.no_grad():
            theirs.copy_(nn.init.normal_(ours, std=0.3))


def assert_gradients_equal(network: nn.Module, plain: nn.Module) -> None:
    for ours, theirs in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, **for_dtype(torch.float64))


class TestTotals:
    def test_critic_of_the_document_layer_by_layer(self) -> None:
        with torch.device("meta"):
            critic = Critic(WGANGPConfig.document())
        assert by_layer(critic) == [3_136, 131_200, 524_544, 2_097_664, 8_389_632, 16_385]
        assert parameters(critic) == 11_162_561
        assert list(critic.buffers()) == []

    def test_generator_of_the_document_layer_by_layer(self) -> None:
        with torch.device("meta"):
            generator = Generator(WGANGPConfig.document())
        convolutions, norms = [8_389_120, 2_097_408, 524_416, 131_136], [1_024, 512, 256, 128]
        blocks = [count for pair in zip(convolutions, norms, strict=True) for count in pair]
        assert by_layer(generator) == [8_454_144, *blocks, 1_731]
        assert parameters(generator) == 19_599_875
        statistics = sum(b.numel() for name, b in generator.named_buffers() if "running" in name)
        assert (statistics, parameters(generator) + statistics) == (1_920, 19_601_795)

    def test_the_default_differs_from_the_document_in_dropout_and_normalisation_only(self) -> None:
        document, default = WGANGPConfig.document().to_dict(), WGANGPConfig().to_dict()
        assert {name for name in document if document[name] != default[name]} == {
            "dropout",
            "norm_eps",
            "norm_momentum",
        }
        assert (default["dropout"], default["norm_eps"], default["norm_momentum"]) == (0.0, 1e-5, 0.1)

    def test_names_of_the_weights_are_those_of_the_first_release(self) -> None:
        norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        names = {f"{layer}.{part}" for layer in ("dense", "blocks.16.conv", "to_image") for part in ("weight", "bias")}
        assert Generator(small()).state_dict().keys() == names | {f"blocks.16.norm.{part}" for part in norm}
        layers = ("blocks.8.conv", "blocks.4.conv", "score.linear")
        assert Critic(small()).state_dict().keys() == {
            f"{layer}.{part}" for layer in layers for part in ("weight", "bias")
        }


class TestShapes:
    def test_maps_of_the_document_at_128(self) -> None:
        with torch.device("meta"):
            config = WGANGPConfig.document()
            latents, images = torch.empty(2, 128), torch.empty(2, 3, 128, 128)
            generator, critic = Generator(config), Critic(config)
            assert config.generator_channels(8) == 1024
            assert map_shapes(generator, latents) == [(512, 16, 16), (256, 32, 32), (128, 64, 64), (64, 128, 128)]
            assert map_shapes(critic, images) == [
                *[(64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8)],
                (1024, 4, 4),
            ]
            assert generator(latents).shape == images.shape
            assert critic(images).shape == (2,)

    def test_maps_at_other_resolutions_begin_at_8_and_end_at_4(self) -> None:
        widths = {16: [64], 32: [128, 64], 512: [1024, 1024, 512, 256, 128, 64]}
        critic_widths = {16: [64, 128], 32: [64, 128, 256], 512: [64, 128, 256, 512, 1024, 1024, 1024]}
        with torch.device("meta"):
            for resolution in widths:
                config = WGANGPConfig(resolution)
                shapes = map_shapes(Generator(config), torch.empty(1, 128))
                expected = [(C, 16 * 2**k, 16 * 2**k) for k, C in enumerate(widths[resolution])]
                assert shapes == expected
                shapes = map_shapes(Critic(config), torch.empty(1, 3, resolution, resolution))
                assert shapes == [
                    (C, resolution >> k, resolution >> k) for k, C in enumerate(critic_widths[resolution], 1)
                ]
                assert shapes[-1][1:] == (4, 4)

    @given(
        resolution=st.sampled_from(RESOLUTIONS[:3]),
        latent_dim=st.integers(1, 3),
        image_channels=st.integers(1, 3),
        base_channels=st.integers(1, 3),
        max_channels=st.integers(1, 4),
        N=st.integers(0, 3),
        training=st.booleans(),
    )
    def test_any_shape_gives_finite_images_and_scores(
        self, resolution: int, N: int, training: bool, **sizes: int
    ) -> None:
        config = WGANGPConfig.document(resolution, **sizes)
        generator, critic = Generator(config).train(training and N > 0), Critic(config).train(training)
        images = generator(torch.randn(N, config.latent_dim))
        assert images.shape == (N, config.image_channels, resolution, resolution)
        assert images.isfinite().all()
        assert (images.abs() <= 1).all()
        scores = critic(images)
        assert scores.shape == (N,)
        assert scores.isfinite().all()

    @pytest.mark.parametrize("shape", [(2, 2, 16, 8), (2, 1, 16, 16), (2, 16, 16), (2, 2, 32, 32)])
    def test_images_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"`images` is .* must be \[N, 2, 16, 16\]"):
            Critic(small())(torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(2, 4), (5,), (2, 5, 1, 1)])
    def test_latents_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"`latents` is .* must be \[N, 5\]"):
            Generator(small())(torch.zeros(shape))

    def test_labels_are_refused_without_classes(self) -> None:
        labels = torch.tensor([0, 1])
        with pytest.raises(ValueError, match=r"`labels` .* no classes"):
            Generator(small())(torch.zeros(2, 5), labels)
        with pytest.raises(ValueError, match=r"`labels` .* no classes"):
            Critic(small())(torch.zeros(2, 2, 16, 16), labels)


class TestClasses:
    def config(self) -> WGANGPConfig:
        return small().replace(num_classes=3)

    def test_the_label_joins_the_latent_and_projects_on_the_features(self) -> None:
        torch.manual_seed(0)
        generator, critic = Generator(self.config()).eval(), Critic(self.config())
        latents, labels = torch.randn(4, 5), torch.tensor([0, 2, 1, 2])
        images = generator(latents, labels)
        plain = Generator(small()).eval()
        state = generator.state_dict()
        for label in (0, 1, 2):
            own = {**state, "dense.weight": state["dense.weight"][:, :5]}
            own["dense.bias"] = state["dense.bias"] + state["dense.weight"][:, 5 + label]
            plain.load_state_dict(own)
            chosen = labels == label
            torch.testing.assert_close(images[chosen], plain(latents[chosen]), **for_dtype(torch.float32))
        with torch.no_grad():
            assert not torch.equal(critic(images, labels), critic(images, labels.flip(0)))
        totals = [sum(p.numel() for p in network.parameters()) for network in (critic, Critic(small()))]
        assert totals[0] - totals[1] == 3 * critic.score.features

    def test_labels_must_be_there_and_fit(self) -> None:
        generator, critic = Generator(self.config()), Critic(self.config())
        for call in (partial(generator, torch.zeros(2, 5)), partial(critic, torch.zeros(2, 2, 16, 16))):
            with pytest.raises(ValueError, match=r"`labels` is None, but must be class indices"):
                call(None)
            with pytest.raises(ValueError, match=r"`labels` is \(3,\), but must be \[2\]"):
                call(torch.zeros(3, dtype=torch.int64))

    def test_samples_take_the_classes_in_turn_or_as_given(self) -> None:
        generator = Generator(self.config())
        in_turn = generator.sample(5, seed=0)
        given = generator.sample(5, seed=0, labels=torch.tensor([0, 1, 2, 0, 1]), batch_size=2)
        torch.testing.assert_close(in_turn, given, **for_dtype(torch.float32))
        assert not torch.equal(in_turn, generator.sample(5, seed=0, labels=torch.tensor([1, 1, 2, 0, 1])))


class TestPlainTwin:
    @pytest.mark.parametrize("training", [False, True])
    def test_critic_its_gradients_and_those_of_its_penalty(self, training: bool) -> None:
        critic, plain = Critic(small(32)).double().train(training), plain_critic().train(training)
        same_weights(critic, plain)
        images, fakes = torch.randn(2, 3, 2, 32, 32, dtype=torch.float64).unbind()
        scores = []
        for network in (critic, plain):
            torch.manual_seed(7)  # the same dropout
            scores.append(network(images))
            mixing = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
            (scores[-1].mean() + 10 * gradient_penalty(network, images, fakes, mixing=mixing)).backward()
        torch.testing.assert_close(*scores, **for_dtype(torch.float64))
        assert_gradients_equal(critic, plain)

    @pytest.mark.parametrize("training", [False, True])
    def test_generator_its_gradients_and_its_running_statistics(self, training: bool) -> None:
        generator, plain = Generator(small(32)).double(), plain_generator()
        same_weights(generator, plain)
        latents, direction = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 2, 32, 32, dtype=torch.float64)
        for network in (generator, plain):
            network(latents)  # leaves running statistics for the evaluation mode
            network.train(training).zero_grad()
            (network(latents) * direction).sum().backward()
        torch.testing.assert_close(generator(latents), plain(latents), **for_dtype(torch.float64))
        assert_gradients_equal(generator, plain)
        for ours, theirs in zip(generator.buffers(), plain.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, **for_dtype(torch.float64))

    def test_the_critic_does_not_change_its_images(self) -> None:
        images = torch.randn(2, 2, 16, 16)
        before = images.clone()
        Critic(small())(images)
        assert torch.equal(images, before)

    def test_channels_last_gives_the_same(self) -> None:
        critic, images = Critic(small()).double().eval(), torch.randn(2, 2, 16, 16, dtype=torch.float64)
        expected = critic(images)
        critic = critic.to(memory_format=torch.channels_last)
        result = critic(images.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(result, expected, **for_dtype(torch.float64))


class TestCritic:
    def test_an_image_is_scored_alone_as_in_a_batch_in_training_too(self) -> None:
        critic, images = Critic(small(dropout=0.0)).double(), torch.randn(3, 2, 16, 16, dtype=torch.float64)
        alone = torch.cat([critic(image[None]) for image in images])
        torch.testing.assert_close(alone, critic(images), **for_dtype(torch.float64))

    def test_dropout_follows_every_block_but_the_first(self) -> None:
        critic = Critic(small(32, base_channels=8, max_channels=32))
        seen: list[Tensor] = []
        for block in critic.blocks.children():
            block.register_forward_hook(lambda module, args, output: seen.append(output))
        critic(torch.randn(32, 2, 32, 32))
        shares = [float((output == 0).double().mean()) for output in seen]
        assert shares == pytest.approx([0.0, 0.3, 0.3], abs=named("random_moments")["atol"])
        assert shares[0] == 0

    def test_what_dropout_leaves_is_scaled_up(self) -> None:
        critic = Critic(small())
        block, x = critic.blocks["4"], torch.randn(3, 2, 8, 8)
        dropped, whole = block(x), block.eval()(x)
        torch.testing.assert_close(dropped, torch.where(dropped == 0, 0.0, whole / 0.7), **for_dtype(torch.float32))

    def test_dropout_is_for_training_only(self) -> None:
        images, critic = torch.randn(4, 2, 16, 16), Critic(small())
        assert not torch.equal(critic(images), critic(images))
        critic.eval()
        assert torch.equal(critic(images), critic(images))

    def test_the_default_critic_is_a_function_of_its_images(self) -> None:
        critic, images = Critic(small(dropout=0.0)).train(), torch.randn(4, 2, 16, 16)
        assert torch.equal(critic(images), critic(images))
        assert not any(isinstance(layer, nn.Dropout) for layer in critic.modules())


class TestGenerator:
    def test_running_statistics_take_a_fifth_of_the_batch_in_the_document(self) -> None:
        generator = Generator(small()).double()
        norm, seen = generator.blocks["16"].norm, []
        norm.register_forward_hook(lambda module, args, output: seen.append(args[0].detach().clone()))
        generator(torch.randn(6, 5, dtype=torch.float64))
        values = seen[0].transpose(0, 1).flatten(1)
        torch.testing.assert_close(norm.running_mean, 0.2 * values.mean(1), **for_dtype(torch.float64))
        expected = 0.8 + 0.2 * values.var(1, correction=1)
        torch.testing.assert_close(norm.running_var, expected, **for_dtype(torch.float64))

    @pytest.mark.parametrize(("config", "eps"), [(small(), 1e-3), (WGANGPConfig(16), 1e-5), (small(norm_eps=0.5), 0.5)])
    def test_eps_is_added_to_the_variance(self, config: WGANGPConfig, eps: float) -> None:
        norm = Generator(config).blocks["16"].norm.double().eval()
        nn.init.zeros_(norm.running_var)
        x = torch.randn(2, config.generator_channels(16), 2, 2, dtype=torch.float64)
        torch.testing.assert_close(norm(x), x / math.sqrt(eps), **for_dtype(torch.float64))

    def test_in_evaluation_mode_an_image_does_not_depend_on_its_batch(self) -> None:
        generator, latents = Generator(small()).double(), torch.randn(4, 5, dtype=torch.float64)
        in_training = generator(latents)
        generator.eval()
        alone = torch.cat([generator(latent[None]) for latent in latents])
        torch.testing.assert_close(alone, generator(latents), **for_dtype(torch.float64))
        assert not torch.allclose(in_training, alone, **for_dtype(torch.float64))  # there the batch is normalised


class TestDerivatives:
    @pytest.mark.parametrize(("dropout", "num_classes"), [(0.0, 0), (0.3, 0), (0.0, 3)])
    def test_critic_is_right_to_second_order_by_images_and_weights(self, dropout: float, num_classes: int) -> None:
        config = small(image_channels=1, base_channels=1, max_channels=2, dropout=dropout, num_classes=num_classes)
        labels = torch.tensor([2, 0]) if num_classes else None
        critic = Critic(config).double()
        names, weights = zip(*critic.named_parameters(), strict=True)
        weights = [nn.init.normal_(w.detach().clone(), std=0.5).requires_grad_() for w in weights]
        images = torch.randn(2, 1, 16, 16, dtype=torch.float64, requires_grad=True)

        def call(images: Tensor, *weights: Tensor) -> Tensor:
            torch.manual_seed(1)  # the same dropout at each of the many calls
            return torch.func.functional_call(critic, dict(zip(names, weights, strict=True)), (images, labels))

        assert torch.autograd.gradcheck(call, (images, *weights), fast_mode=True)
        assert torch.autograd.gradgradcheck(call, (images, *weights), fast_mode=True)

    @pytest.mark.parametrize("training", [False, True])
    def test_generator_is_right_to_second_order_by_latents_and_weights(self, training: bool) -> None:
        config = small(image_channels=1, base_channels=1, max_channels=2, latent_dim=3, norm_momentum=0.0)
        generator = Generator(config).double().train(training)
        names, weights = zip(*generator.named_parameters(), strict=True)
        weights = [nn.init.normal_(w.detach().clone(), std=0.5).requires_grad_() for w in weights]
        latents = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

        def call(latents: Tensor, *weights: Tensor) -> Tensor:
            return torch.func.functional_call(generator, dict(zip(names, weights, strict=True)), (latents,))

        assert torch.autograd.gradcheck(call, (latents, *weights), fast_mode=True)
        assert torch.autograd.gradgradcheck(call, (latents, *weights), fast_mode=True)

    def test_bfloat16_trains_both_networks_in_the_direction_of_float32(self) -> None:
        config = small(32, base_channels=8, max_channels=32, dropout=0.0)
        generator, critic = Generator(config), Critic(config)
        latents, real = torch.randn(8, 5), torch.randn(8, 2, 32, 32)
        gradients = []
        for enabled in (False, True):
            networks = (copy.deepcopy(generator), copy.deepcopy(critic))
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                fake = networks[0](latents)
                penalty = gradient_penalty(networks[1], real, fake.float(), mixing=torch.full((8,), 0.5))
                (-networks[1](fake).mean() + penalty).backward()
            parts = [[p.grad.flatten() for p in n.parameters() if p.grad is not None] for n in networks]
            gradients.append([torch.cat(part) for part in parts])
        for exact, low in zip(*gradients, strict=True):
            assert 1 - F.cosine_similarity(exact, low, dim=0) < named("bfloat16 direction")["atol"]


class TestInitialization:
    def layers(self, scheme: str) -> list[tuple[Tensor, Tensor]]:
        config = small(base_channels=16, max_channels=64, latent_dim=64, initialization=scheme)
        modules = [*Generator(config).modules(), *Critic(config).modules()]
        kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
        layers = [(m.weight.detach(), m.bias.detach()) for m in modules if isinstance(m, kinds)]
        assert len(layers) == 6
        return layers

    @pytest.mark.parametrize("scheme", ["glorot_uniform", "torch"])
    def test_uniform_laws_keep_their_bounds_and_spread(self, scheme: str) -> None:
        for weight, bias in self.layers(scheme):
            field = math.prod(weight.shape[2:])
            fan_in, fan_out = weight.shape[1] * field, weight.shape[0] * field
            bound = math.sqrt(6 / (fan_in + fan_out)) if scheme == "glorot_uniform" else 1 / math.sqrt(fan_in)
            assert weight.abs().max() <= bound
            assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=named("initial spread")["rtol"])
            assert bias.abs().max() <= (0 if scheme == "glorot_uniform" else bound)
            assert scheme == "glorot_uniform" or bias.abs().max() > 0

    def test_the_paper_of_the_convolutional_networks_is_to_be_had(self) -> None:
        for weight, _ in self.layers("dcgan"):
            assert float(weight.std()) == pytest.approx(0.02, rel=named("initial spread")["rtol"])
        norm = Generator(WGANGPConfig(16, latent_dim=1, base_channels=512, initialization="dcgan")).blocks["16"].norm
        scales = norm.weight.detach()
        assert float(scales.mean()) == pytest.approx(1, abs=named("random_moments")["atol"])
        assert float(scales.std()) == pytest.approx(0.02, rel=named("initial spread")["rtol"])

    def test_normalisation_of_the_document_begins_at_one_and_zero(self) -> None:
        norm = Generator(small()).blocks["16"].norm
        assert torch.equal(norm.weight, torch.ones(2))
        assert torch.equal(norm.bias, torch.zeros(2))

    def test_weights_follow_the_global_seed(self) -> None:
        for network in (Generator, Critic):
            states = []
            for seed in (0, 0, 1):
                torch.manual_seed(seed)
                states.append(torch.cat([p.flatten() for p in network(small()).parameters()]))
            assert torch.equal(states[0], states[1])
            assert not torch.equal(states[0], states[2])


class TestSample:
    def test_same_seed_same_images_for_every_batch_size(self) -> None:
        generator = Generator(small())
        generator(torch.randn(4, 5))  # running statistics other than those of the start
        first = generator.sample(5, seed=3, batch_size=2)
        assert first.shape == (5, 2, 16, 16)
        torch.testing.assert_close(first, generator.sample(5, seed=3), **for_dtype(torch.float32))
        assert not torch.equal(first, generator.sample(5, seed=4))

    @pytest.mark.parametrize("truncation", [None, 0.7])
    def test_latents_are_those_of_the_samples(self, truncation: float | None) -> None:
        generator = Generator(small()).double().eval()
        latents = generator.sample_latents(4, seed=3, truncation=truncation)
        draw = normal_latents if truncation is None else partial(truncated_normal_latents, truncation=truncation)
        assert torch.equal(latents, draw(4, 5, seed=3, dtype=torch.float64))
        assert torch.equal(generator.sample(4, seed=3, truncation=truncation), generator(latents))

    def test_without_a_seed_the_global_generator_is_drawn_from(self) -> None:
        generator = Generator(small())
        images = [(torch.manual_seed(seed), generator.sample(2))[1] for seed in (5, 5, 6)]
        assert torch.equal(images[0], images[1])
        assert not torch.equal(images[0], images[2])

    def test_sampling_leaves_modes_statistics_and_random_state_alone(self) -> None:
        generator = Generator(small(32)).train()
        generator.blocks["16"].eval()
        modes = [part.training for part in generator.modules()]
        state, random = copy.deepcopy(generator.state_dict()), torch.random.get_rng_state()
        assert not generator.sample(2, seed=0).requires_grad
        assert [part.training for part in generator.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in generator.state_dict().items())
        assert torch.equal(random, torch.random.get_rng_state())

    def test_numbers_are_checked(self) -> None:
        generator = Generator(small())
        with pytest.raises(ValueError, match="`count`"):
            generator.sample(0, seed=0)
        with pytest.raises(ValueError, match="`count`"):
            generator.sample_latents(0)
        with pytest.raises(ValueError, match="`batch_size`"):
            generator.sample(1, batch_size=0)
        with pytest.raises(ValueError, match="`truncation`"):
            generator.sample(1, truncation=-1.0)


class TestConfig:
    def test_document_sets_its_constants_and_takes_others(self) -> None:
        config = WGANGPConfig.document()
        assert config == WGANGPConfig(128, dropout=0.3, norm_momentum=0.2, norm_eps=1e-3)
        assert (config.latent_dim, config.image_channels, config.slope) == (128, 3, 0.2)
        changed = WGANGPConfig.document(64, dropout=0.0, image_channels=1)
        assert (changed.resolution, changed.dropout, changed.image_channels, changed.norm_eps) == (64, 0.0, 1, 1e-3)

    def test_json_round_trip(self) -> None:
        config = small(64, slope=0.1, initialization="he_normal")
        assert WGANGPConfig.from_json(config.to_json()) == config
        assert json.loads(config.to_json()) == config.to_dict()
        assert config.to_dict()["num_classes"] == 0

    def test_sides_and_widths(self) -> None:
        config = WGANGPConfig(64, base_channels=10, max_channels=50)
        assert config.generator_sides == (16, 32, 64)
        assert [config.generator_channels(side) for side in (8, *config.generator_sides)] == [50, 40, 20, 10]
        assert config.critic_sides == (32, 16, 8, 4)
        assert [config.critic_channels(side) for side in config.critic_sides] == [10, 20, 40, 50]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *[("resolution", value) for value in (0, 8, 28, 1024, 128.0, "128", True, None)],
            *[
                (name, value)
                for name in ("latent_dim", "image_channels", "base_channels")
                for value in (0, -1, 2.0, "8")
            ],
            *[("latent_dim", 4097), ("image_channels", 65), ("base_channels", 2049), ("max_channels", 2049)],
            *[("max_channels", 0), ("num_classes", 1025), ("num_classes", False)],
            *[
                (name, value)
                for name in ("slope", "dropout", "norm_momentum")
                for value in (-0.1, 1.1, math.nan, "0.1")
            ],
            *[("dropout", 1.0), ("dropout", None), ("slope", True)],
            *[("norm_eps", value) for value in (0.0, -1e-3, math.inf, math.nan, None)],
            *[("initialization", value) for value in ("glorot", None, [])],
        ],
    )
    def test_values_out_of_range_are_named(self, field: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"`{field}` is {value!r}, but must be".replace("[", r"\[")):
            WGANGPConfig(**{field: value})  # type: ignore[arg-type]

    def test_unknown_fields_are_named(self) -> None:
        with pytest.raises(ValueError, match="depth"):
            WGANGPConfig.document(depth=3)
