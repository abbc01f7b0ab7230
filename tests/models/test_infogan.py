"""InfoGAN: every layer, the networks written out in plain torch.nn, what latents hold, the guesses of Q."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from ganblocks.models.infogan import Discriminator, Generator, InfoGANConfig
from ganblocks.training.information_step import code_sampler
from tolerances import for_dtype, named

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
TINY = InfoGANConfig(8, 2, 3, 4, 2, base_channels=2, dense_width=6, code_width=5)


def sizes(module: nn.Module) -> list[int]:
    return [parameter.numel() for parameter in module.parameters()]


# Table 1 once more, from torch.nn alone.


def plain_generator() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(74, 1024, bias=False),
        nn.BatchNorm1d(1024),
        nn.ReLU(),
        nn.Linear(1024, 7 * 7 * 128, bias=False),
        nn.BatchNorm1d(7 * 7 * 128),
        nn.ReLU(),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Tanh(),
    )


class PlainDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 64, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(64, 128, 4, 2, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(7 * 7 * 128, 1024, bias=False),
            nn.BatchNorm1d(1024),
            nn.LeakyReLU(0.1),
        )
        self.score = nn.Linear(1024, 1)
        self.recognizer = nn.Sequential(
            nn.Linear(1024, 128, bias=False), nn.BatchNorm1d(128), nn.LeakyReLU(0.1), nn.Linear(128, 14)
        )

    def score_and_codes(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.trunk(images)
        guesses = self.recognizer(features)
        return self.score(features)[:, 0], guesses[:, :10], guesses[:, 10:12], guesses[:, 12:]


def disturbed(network: nn.Module) -> nn.Module:
    """Batch normalisation with numbers that would show where they are left out."""
    for layer in network.modules():
        if isinstance(layer, NORMS):
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return network


class TestTotals:
    def test_every_layer_of_table_1(self) -> None:
        generator, discriminator = Generator(InfoGANConfig()), Discriminator(InfoGANConfig())
        dense, norm = 74 * 1024, [1024, 1024]
        up = [dense, *norm, 1024 * 6272, 6272, 6272, 128 * 64 * 16, 64, 64, 64 * 16, 1]
        assert sizes(generator) == up
        trunk = [16 * 64, 64, 64 * 128 * 16, 128, 128, 6272 * 1024, *norm]
        assert sizes(discriminator) == [*trunk, 1024, 1, 1024 * 128, 128, 128, 128 * 14, 14]
        assert (sum(sizes(generator)), sum(sizes(discriminator))) == (6_645_121, 6_691_151)

    @given(
        resolution=st.sampled_from([8, 12, 28, 32]),
        channels=st.integers(1, 3),
        K=st.integers(2, 5),
        C=st.integers(0, 3),
        learned=st.booleans(),
    )
    def test_of_any_size(self, resolution: int, channels: int, K: int, C: int, learned: bool) -> None:
        config = InfoGANConfig(resolution, channels, 3, K, C, 2, 7, 5, learned)
        pixels = 4 * (resolution // 4) ** 2
        up = (3 + K + C) * 7 + 2 * 7 + 7 * pixels + 2 * pixels + 4 * 2 * 16 + 2 * 2 + 2 * channels * 16 + channels
        trunk = channels * 2 * 16 + 2 + 2 * 4 * 16 + 2 * 4 + pixels * 7 + 2 * 7
        guesses = K + C + learned * C
        down = trunk + 7 + 1 + 7 * 5 + 2 * 5 + 5 * guesses + guesses
        assert sum(sizes(Generator(config))) == up
        assert sum(sizes(Discriminator(config))) == down

    def test_the_preset(self) -> None:
        assert InfoGANConfig.chen2016() == InfoGANConfig()
        assert InfoGANConfig.chen2016(continuous=3).latent_dim == 62 + 10 + 3
        assert InfoGANConfig().latent_dim == 74


class TestPlainNetworks:
    @pytest.mark.parametrize("training", [True, False])
    def test_the_generator(self, training: bool) -> None:
        ours = disturbed(Generator(InfoGANConfig()).double()).train(training)
        theirs = plain_generator().double().train(training)
        theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
        latents, results = torch.randn(3, 74, dtype=torch.float64), []
        for model in (ours, theirs):
            x = latents.clone().requires_grad_()
            y = model(x)
            weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
            gradients = torch.autograd.grad((y * weight).sum(), [x, *model.parameters()])
            results.append([y, *gradients, *model.buffers()])
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, **for_dtype(torch.float64))

    @pytest.mark.parametrize("training", [True, False])
    def test_the_discriminator_and_q(self, training: bool) -> None:
        ours = disturbed(Discriminator(InfoGANConfig()).double()).train(training)
        theirs = PlainDiscriminator().double().train(training)
        theirs.load_state_dict(ours.state_dict())
        images, results = torch.randn(3, 1, 28, 28, dtype=torch.float64), []
        for model in (ours, theirs):
            x = images.clone().requires_grad_()
            outputs = model.score_and_codes(x)
            total = sum(((index + 1) * y.cos()).sum() for index, y in enumerate(outputs))
            gradients = torch.autograd.grad(total, [x, *model.parameters()])
            results.append([*outputs, *gradients, *model.buffers()])
            assert torch.equal(x, images)  # what works in place stays off the input
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, **for_dtype(torch.float64))

    def test_names_of_the_weights_are_those_of_the_first_release(self) -> None:
        names = [name for name, _ in Generator(TINY).named_parameters()]
        layers = [(0, "w"), (1, "wb"), (3, "w"), (4, "wb"), (7, "w"), (8, "wb"), (10, "wb")]
        kinds = {"w": "weight", "b": "bias"}
        assert names == [f"layers.{index}.{kinds[kind]}" for index, both in layers for kind in both]
        names = {name.rsplit(".", 1)[0] for name, _ in Discriminator(TINY).named_parameters()}
        trunk = {f"trunk.{index}" for index in (0, 2, 3, 6, 7)}
        assert names == trunk | {"score", "recognizer.0", "recognizer.1", "recognizer.3"}

    def test_weights_start_as_in_a_dcgan(self) -> None:
        for network in (Generator(InfoGANConfig()), Discriminator(InfoGANConfig())):
            for layer in network.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                    assert layer.bias is None or not layer.bias.any()
                    if layer.weight.numel() >= 20_000:
                        found = layer.weight.std()
                        torch.testing.assert_close(found, torch.tensor(0.02), **named("std_of_20000"))


class TestGuesses:
    def test_the_score_is_that_of_a_pass_without_q(self) -> None:
        discriminator, images = Discriminator(TINY).double(), torch.randn(4, 2, 8, 8, dtype=torch.float64)
        scores = discriminator.score_and_codes(images)[0]
        assert torch.equal(scores, discriminator(images))
        assert torch.equal(scores, discriminator(images, None))

    def test_the_score_alone_leaves_q_s_statistics_alone(self) -> None:
        discriminator = Discriminator(TINY)
        before = discriminator.recognizer[1].running_mean.clone()
        discriminator(torch.randn(4, 2, 8, 8))
        assert torch.equal(before, discriminator.recognizer[1].running_mean)
        discriminator.score_and_codes(torch.randn(4, 2, 8, 8))
        assert not torch.equal(before, discriminator.recognizer[1].running_mean)

    @given(N=st.integers(0, 3), K=st.integers(2, 4), C=st.integers(0, 3), learned=st.booleans())
    def test_shapes_in_any_batch(self, N: int, K: int, C: int, learned: bool) -> None:
        config = TINY.replace(categories=K, continuous=C, learned_variance=learned)
        generator, discriminator = Generator(config).eval(), Discriminator(config).eval()
        images = generator(torch.randn(N, config.latent_dim))
        assert images.shape == (N, 2, 8, 8)
        assert (images.abs() <= 1).all()
        scores, categories, mean, log_var = discriminator.score_and_codes(images)
        assert (scores.shape, categories.shape, mean.shape, log_var.shape) == ((N,), (N, K), (N, C), (N, C))
        assert discriminator(images).shape == (N,)
        assert learned or not log_var.any()

    def test_variances_are_learned_or_one(self) -> None:
        images = torch.randn(4, 2, 8, 8)
        log_var = Discriminator(TINY).score_and_codes(images)[3]
        assert log_var.requires_grad
        log_var = Discriminator(TINY.replace(learned_variance=False)).score_and_codes(images)[3]
        assert not log_var.requires_grad
        assert torch.equal(log_var, torch.zeros(4, 2))


class TestLatents:
    def test_hold_noise_then_category_then_codes(self) -> None:
        latents = Generator(InfoGANConfig()).sample_latents(4_000, seed=2)
        noise, one_hot, codes = latents.split_with_sizes([62, 10, 2], dim=1)
        assert ((one_hot == 0) | (one_hot == 1)).all()
        assert torch.equal(one_hot.sum(1), torch.ones(4_000))
        torch.testing.assert_close(one_hot.mean(0), torch.full((10,), 0.1), **named("random_moments"))
        torch.testing.assert_close(noise.std(0), torch.ones(62), **named("random_moments"))
        torch.testing.assert_close(codes.mean(0), torch.zeros(2), **named("random_moments"))
        torch.testing.assert_close(codes.std(0), torch.full((2,), 3**-0.5), **named("random_moments"))
        assert codes.abs().max() <= 1
        assert codes.abs().max() > 0.99

    @pytest.mark.parametrize("continuous", [0, 2])
    def test_are_those_of_training(self, continuous: int) -> None:
        generator = Generator(TINY.replace(continuous=continuous))
        drawn = code_sampler(3, 4, continuous)(7, torch.Generator().manual_seed(5))
        assert torch.equal(generator.sample_latents(7, seed=5), drawn)

    def test_have_the_device_and_the_dtype_of_the_weights(self) -> None:
        generator = Generator(TINY)
        plain = generator.sample_latents(3, seed=1)
        assert generator.double().sample_latents(3, seed=1).dtype == torch.float64
        low = generator.bfloat16().sample_latents(3, seed=1)
        assert torch.equal(low, plain.bfloat16())

    def test_chosen_categories_leave_noise_and_codes(self) -> None:
        generator = Generator(TINY)
        some, others = (
            generator.sample_latents(5, seed=1, categories=chosen) for chosen in (None, torch.arange(5) % 4)
        )
        assert torch.equal(some[:, :3], others[:, :3])
        assert torch.equal(some[:, 7:], others[:, 7:])
        assert torch.equal(others[:, 3:7].argmax(1), torch.arange(5) % 4)
        assert torch.equal(generator.join(others[:, :3], torch.arange(5, dtype=torch.uint8) % 4, others[:, 7:]), others)

    def test_truncation_bounds_the_noise_alone(self) -> None:
        latents = Generator(TINY).sample_latents(200, seed=1, truncation=0.1)
        assert latents[:, :3].abs().max() <= 0.1
        assert latents[:, 7:].abs().max() > 0.9

    def test_that_do_not_fit_are_told(self) -> None:
        generator, noise = Generator(TINY), torch.randn(2, 3)
        codes = torch.zeros(2, 2)
        with pytest.raises(ValueError, match=r"`noise` is \(2, 2\), but must be \[2, 3\]"):
            generator.join(noise[:, :2], torch.zeros(2, dtype=torch.int64), codes)
        with pytest.raises(ValueError, match=r"`categories` is \(3,\), but must be \[2\]"):
            generator.join(noise, torch.zeros(3, dtype=torch.int64), codes)
        with pytest.raises(ValueError, match=r"`codes` is \(2, 1\), but must be \[2, 2\]"):
            generator.join(noise, torch.zeros(2, dtype=torch.int64), codes[:, :1])
        for wrong in (4, -1):
            with pytest.raises(ValueError, match=rf"`categories` is \[0, {wrong}\], but must be from 0 to 3"):
                generator.join(noise, torch.tensor([0, wrong]), codes)
        with pytest.raises(ValueError, match=r"`categories` is \(3,\), but must be \[2\]"):
            generator.sample(2, categories=torch.zeros(3, dtype=torch.int64))
        with pytest.raises(ValueError, match="`count` is 0"):
            generator.sample_latents(0)
        with pytest.raises(ValueError, match="`batch_size` is 0"):
            generator.sample(1, batch_size=0)
        with pytest.raises(ValueError, match="`truncation`"):
            generator.sample(1, truncation=-1.0)


class TestSamples:
    def test_are_made_in_evaluation_mode_and_change_nothing(self) -> None:
        generator = Generator(TINY)
        state = {name: value.clone() for name, value in generator.state_dict().items()}
        samples = generator.sample(4, seed=3)
        assert generator.training
        assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())
        assert torch.equal(samples, generator.eval()(generator.sample_latents(4, seed=3)))
        assert not samples.requires_grad

    def test_are_functions_of_the_seed(self) -> None:
        generator = Generator(TINY)
        assert torch.equal(generator.sample(3, seed=1), generator.sample(3, seed=1))
        assert not torch.equal(generator.sample(3, seed=1), generator.sample(3, seed=2))
        torch.manual_seed(1)
        assert torch.equal(generator.sample(3), generator.sample(3, seed=1))
        split = generator.sample(5, seed=1, batch_size=2)
        torch.testing.assert_close(split, generator.sample(5, seed=1), **for_dtype(torch.float32))
        chosen = generator.sample(3, seed=1, categories=torch.tensor([0, 0, 3]))
        latents = generator.sample_latents(3, seed=1, categories=torch.tensor([0, 0, 3]))
        assert torch.equal(chosen, generator.eval()(latents))

    def test_the_seed_decides_the_weights(self) -> None:
        def first(seed: int) -> Tensor:
            torch.manual_seed(seed)
            return next(Generator(TINY).parameters())

        assert torch.equal(first(1), first(1))
        assert not torch.equal(first(1), first(2))


class TestDerivatives:
    @pytest.mark.parametrize("training", [True, False])
    def test_of_first_and_second_order(self, training: bool) -> None:
        config = TINY.replace(initialization="he_normal")
        inputs = {
            Generator: torch.randn(3, config.latent_dim, dtype=torch.float64),
            Discriminator: torch.randn(3, 2, 8, 8, dtype=torch.float64),
        }
        for network, x in inputs.items():
            model = disturbed(network(config).double()).train(training)
            names = [name for name, _ in model.named_parameters()]
            values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]

            class Whole(nn.Module):
                """All outputs of a network, in one tensor."""

                def __init__(self, network: nn.Module) -> None:
                    super().__init__()
                    self.network = network

                def forward(self, x: Tensor) -> Tensor:
                    if isinstance(self.network, Generator):
                        return self.network(x)
                    return torch.cat([y.flatten() for y in self.network.score_and_codes(x)])

            whole = Whole(model)

            def call(x: Tensor, *values: Tensor, whole: nn.Module = whole, names: list[str] = names) -> Tensor:
                weights = {f"network.{name}": value for name, value in zip(names, values, strict=True)}
                return torch.func.functional_call(whole, weights, (x,))

            arguments = (x.requires_grad_(), *values)
            assert gradcheck(call, arguments, fast_mode=True)
            assert gradgradcheck(call, arguments, fast_mode=True)


class TestForms:
    def test_neighbours_count_in_training_and_not_in_evaluation(self) -> None:
        discriminator = Discriminator(TINY).double()
        images = torch.randn(4, 2, 8, 8, dtype=torch.float64)
        assert not torch.allclose(discriminator(images)[:2], discriminator(images[:2]))
        discriminator.eval()
        for whole, part in zip(
            discriminator.score_and_codes(images), discriminator.score_and_codes(images[:2]), strict=True
        ):
            torch.testing.assert_close(whole[:2], part, **for_dtype(torch.float64))

    def test_channels_last_gives_the_same(self) -> None:
        generator, discriminator = Generator(TINY).double().eval(), Discriminator(TINY).double().eval()
        latents = generator.sample_latents(3, seed=0)
        images = generator(latents)
        logits = discriminator(images)
        generator.to(memory_format=torch.channels_last)
        discriminator.to(memory_format=torch.channels_last)
        again = generator(latents).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(again, images, **for_dtype(torch.float64))
        torch.testing.assert_close(discriminator(again), logits, **for_dtype(torch.float64))

    def test_bfloat16_autocast_points_where_float32_does(self) -> None:
        config = InfoGANConfig(16, base_channels=8, dense_width=64, code_width=16)
        generator, discriminator = Generator(config), Discriminator(config)
        latents, gradients = generator.sample_latents(8, seed=0), []
        for enabled in (False, True):
            generator.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                outputs = discriminator.score_and_codes(generator(latents))
            assert all(y.dtype == (torch.bfloat16 if enabled else torch.float32) for y in outputs)
            sum(y.float().square().mean() for y in outputs).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in generator.parameters()]))
        assert all(gradient.isfinite().all() for gradient in gradients)
        cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
        torch.testing.assert_close(cosine, torch.tensor(1.0), **named("bfloat16 direction"))


class TestConfig:
    def test_goes_through_json(self) -> None:
        config = TINY.replace(learned_variance=False, slope=0.25)
        assert InfoGANConfig.from_json(config.to_json()) == config
        assert "num_classes" not in json.loads(config.to_json())
        assert config.num_classes == 0

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("resolution", 30),
            ("resolution", 4),
            ("resolution", 68),
            ("resolution", 28.0),
            ("image_channels", 0),
            ("noise_dim", 0),
            ("categories", 1),
            ("continuous", -1),
            ("base_channels", 0),
            ("dense_width", 0),
            ("code_width", True),
            ("learned_variance", 1),
            ("slope", 1.5),
            ("slope", "steep"),
            ("initialization", "zeros"),
        ],
    )
    def test_names_what_is_out_of_range(self, name: str, value: object) -> None:
        with pytest.raises(ValueError, match=f"`{name}` is"):
            InfoGANConfig(**{name: value})

    def test_inputs_that_do_not_fit_are_told(self) -> None:
        generator, discriminator = Generator(TINY), Discriminator(TINY)
        with pytest.raises(ValueError, match=r"`latents` is \(2, 8\), but must be \[N, 9\]"):
            generator(torch.randn(2, 8))
        for call in (discriminator, discriminator.score_and_codes):
            with pytest.raises(ValueError, match=r"`images` is \(2, 1, 8, 8\), but must be \[N, 2, 8, 8\]"):
                call(torch.randn(2, 1, 8, 8))
        labels = torch.zeros(2, dtype=torch.int64)
        for network, x in ((generator, torch.randn(2, 9)), (discriminator, torch.randn(2, 2, 8, 8))):
            with pytest.raises(ValueError, match="told no classes"):
                network(x, labels)
