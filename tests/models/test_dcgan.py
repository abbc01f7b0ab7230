"""DCGAN in both its forms: every layer's parameters, the networks written out in plain torch.nn, weights, modes."""

import json
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from ganblocks.models.dcgan import DCGANConfig, Discriminator, Generator
from tolerances import for_dtype, named

FORMS = pytest.mark.parametrize("preset", [DCGANConfig.radford2016, DCGANConfig.document_tutorial])
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
TINY = {"latent_dim": 3, "base_channels": 2, "image_channels": 2}


def sizes(module: nn.Module) -> list[int]:
    return [parameter.numel() for parameter in module.parameters()]


def shapes_of_maps(network: nn.Module, given: Tensor) -> list[tuple[int, ...]]:
    """Of everything that changes the shape, without N, in order."""
    shapes: list[tuple[int, ...]] = []
    for layer in network.layers:
        layer.register_forward_hook(lambda layer, given, result: shapes.append(tuple(result.shape[1:])))
    network(given)
    return [shape for shape, before in zip(shapes, [None, *shapes], strict=False) if shape != before]


# The networks once more, from torch.nn alone. Keras's "same" is written as padding and cropping by hand.


def plain_paper_generator(Z: int = 100, C: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (Z, 1, 1)),
        nn.ConvTranspose2d(Z, 128, 7, 1, 0, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, C, 4, 2, 1, bias=False),
        nn.Tanh(),
    )


def plain_paper_discriminator(C: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(C, 64, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Conv2d(128, 1, 7, 1, 0, bias=False),
        nn.Flatten(0),
    )


def plain_tutorial_generator() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(100, 12_544, bias=False),
        nn.BatchNorm1d(12_544, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3),
        nn.Unflatten(1, (256, 7, 7)),
        nn.ConvTranspose2d(256, 128, 5, 1, 2, bias=False),
        nn.BatchNorm2d(128, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(128, 64, 5, 2, 0, bias=False),  # 17 rows: 1 goes before, 2 after
        nn.ZeroPad2d((-1, -2, -1, -2)),
        nn.BatchNorm2d(64, eps=1e-3, momentum=0.01),
        nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(64, 1, 5, 2, 0, bias=False),  # 31 rows
        nn.ZeroPad2d((-1, -2, -1, -2)),
        nn.Tanh(),
    )


def plain_tutorial_discriminator() -> nn.Sequential:
    return nn.Sequential(
        nn.ZeroPad2d((1, 2, 1, 2)),
        nn.Conv2d(1, 64, 5, 2),
        nn.LeakyReLU(0.3),
        nn.Dropout(0.3),
        nn.ZeroPad2d((1, 2, 1, 2)),
        nn.Conv2d(64, 128, 5, 2),
        nn.LeakyReLU(0.3),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(6272, 1),
        nn.Flatten(0),
    )


PLAIN = pytest.mark.parametrize(
    ("network", "preset", "plain"),
    [
        (Generator, DCGANConfig.radford2016, plain_paper_generator),
        (Discriminator, DCGANConfig.radford2016, plain_paper_discriminator),
        (Generator, DCGANConfig.document_tutorial, plain_tutorial_generator),
        (Discriminator, DCGANConfig.document_tutorial, plain_tutorial_discriminator),
    ],
)


class TestTotals:
    def test_every_layer_of_the_paper_s_form(self) -> None:
        generator, discriminator = Generator(DCGANConfig()), Discriminator(DCGANConfig())
        assert sizes(generator) == [627_200, 128, 128, 131_072, 64, 64, 1_024]
        assert sizes(discriminator) == [1_024, 131_072, 128, 128, 6_272]
        assert (sum(sizes(generator)), sum(sizes(discriminator))) == (759_680, 138_624)

    def test_every_layer_of_the_tutorial_s_form(self) -> None:
        config = DCGANConfig.document_tutorial()
        generator, discriminator = Generator(config), Discriminator(config)
        dense, norm = 1_254_400, [12_544, 12_544]
        assert sizes(generator) == [dense, *norm, 819_200, 128, 128, 204_800, 64, 64, 1_600]
        assert sizes(discriminator) == [1_600, 64, 204_800, 128, 6_272, 1]
        assert (sum(sizes(generator)), sum(sizes(discriminator))) == (2_305_472, 212_865)

    @pytest.mark.parametrize(
        ("config", "totals"),
        [(DCGANConfig(), (760_064, 138_880)), (DCGANConfig.document_tutorial(), (2_330_944, 212_865))],
    )
    def test_totals_as_keras_counts_them_with_running_statistics(
        self, config: DCGANConfig, totals: tuple[int, int]
    ) -> None:
        found = []
        for network in (Generator(config), Discriminator(config)):
            running = [v.numel() for name, v in network.named_buffers() if "running" in name]
            found.append(sum(sizes(network)) + sum(running))
        assert tuple(found) == totals

    def test_presets_with_the_same_networks(self) -> None:
        assert DCGANConfig.radford2016() == DCGANConfig(form="paper", initialization="dcgan")
        assert DCGANConfig.document_pytorch() == DCGANConfig(initialization="torch")


class TestShapes:
    def test_maps_of_the_paper_s_form(self) -> None:
        config = DCGANConfig()
        down = [(64, 14, 14), (128, 7, 7), (1, 1, 1)]
        with torch.device("meta"):
            up = shapes_of_maps(Generator(config), torch.empty(2, 100))
            assert up == [(100, 1, 1), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
            assert shapes_of_maps(Discriminator(config), torch.empty(2, 1, 28, 28)) == down

    def test_maps_of_the_tutorial_s_form(self) -> None:
        config = DCGANConfig.document_tutorial()
        with torch.device("meta"):
            up = shapes_of_maps(Generator(config), torch.empty(2, 100))
            down = shapes_of_maps(Discriminator(config), torch.empty(2, 1, 28, 28))
        assert up == [(12_544,), (256, 7, 7), (128, 7, 7), (64, 14, 14), (1, 28, 28)]
        assert down == [(64, 14, 14), (128, 7, 7), (6_272,), (1,)]

    def test_maps_of_figure_1(self) -> None:
        with torch.device("meta"):
            config = DCGANConfig.radford2016(64, base_channels=128, image_channels=3)
            up = shapes_of_maps(Generator(config), torch.empty(2, 100))
        assert up[1:] == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]

    @FORMS
    @pytest.mark.parametrize("resolution", [s * 2**b for s in (4, 5, 6, 7) for b in range(1, 9) if s * 2**b <= 1024])
    def test_every_resolution_that_is_allowed(self, preset: Callable[..., DCGANConfig], resolution: int) -> None:
        config = preset(resolution, image_channels=3)
        assert 4 <= config.start_side <= 7
        with torch.device("meta"):
            images = Generator(config)(torch.empty(2, 100))
            logits = Discriminator(config)(images)
        assert images.shape == (2, 3, resolution, resolution)
        assert logits.shape == (2,)

    @given(
        form=st.sampled_from(["paper", "tutorial"]),
        resolution=st.sampled_from([8, 10, 14, 16, 20]),
        C=st.integers(1, 3),
        classes=st.integers(0, 3),
        N=st.integers(0, 3),
    )
    def test_any_batch_any_channels_any_classes(self, form: str, resolution: int, C: int, classes: int, N: int) -> None:
        config = DCGANConfig(form, resolution, 3, C, classes, base_channels=2)  # type: ignore[arg-type]
        generator, discriminator = Generator(config).eval(), Discriminator(config).eval()
        labels = torch.zeros(N, dtype=torch.int64) if classes else None
        images = generator(torch.randn(N, 3), labels)
        assert images.shape == (N, C, resolution, resolution)
        assert images.isfinite().all()
        assert (images.abs() <= 1).all()
        assert discriminator(images, labels).shape == (N,)

    def test_widths_end_at_their_bound(self) -> None:
        config = DCGANConfig.document_tutorial(64, base_channels=3, max_channels=10)
        assert (config.widths, config.dense_width, config.start_side) == ((3, 6, 10, 10), 10, 4)


class TestPlainNetworks:
    @PLAIN
    @pytest.mark.parametrize("training", [True, False])
    def test_values_gradients_and_running_statistics(
        self, network: type, preset: Callable[..., DCGANConfig], plain: Callable[[], nn.Sequential], training: bool
    ) -> None:
        ours, theirs = network(preset()).double(), plain().double()
        for layer in ours.modules():
            if isinstance(layer, NORMS):
                nn.init.normal_(layer.bias)
                nn.init.normal_(layer.running_mean)
                nn.init.uniform_(layer.running_var, 0.5, 2.0)
        theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
        shape = (4, 100) if network is Generator else (4, 1, 28, 28)
        inputs, results = torch.randn(shape, dtype=torch.float64), []
        for model in (ours.train(training), theirs.train(training)):
            x = inputs.clone().requires_grad_()
            torch.manual_seed(1)  # of the dropout
            y = model(x)
            weight = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
            gradients = torch.autograd.grad((y * weight).sum(), [x, *model.parameters()])
            results.append([y, *gradients, *model.buffers()])
            assert torch.equal(x, inputs)  # what works in place stays off the input
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, **for_dtype(torch.float64))

    @PLAIN
    def test_names_of_the_weights_are_those_of_a_sequence(
        self, network: type, preset: Callable[..., DCGANConfig], plain: Callable[[], nn.Sequential]
    ) -> None:
        ours = network(preset())
        assert all(name.startswith("layers.") for name in ours.state_dict())
        kinds = [name.split(".")[-1] for name in ours.state_dict()]
        assert kinds == [name.split(".")[-1] for name in plain().state_dict()]

    def test_names_of_the_weights_are_those_of_the_first_release(self) -> None:
        names = [name for name, _ in Generator(DCGANConfig()).named_parameters()]
        norm = [[f"layers.{index}.weight", f"layers.{index}.bias"] for index in (2, 5)]
        assert names == ["layers.1.weight", *norm[0], "layers.4.weight", *norm[1], "layers.7.weight"]
        names = [name for name, _ in Discriminator(DCGANConfig.document_tutorial()).named_parameters()]
        assert names == [f"layers.{index}.{kind}" for index in (0, 3, 7) for kind in ("weight", "bias")]

    def test_the_discriminator_ends_in_logits(self) -> None:
        discriminator = Discriminator(DCGANConfig(initialization="normal01")).eval()
        logits = discriminator(torch.randn(16, 1, 28, 28))
        assert logits.min() < -1
        assert logits.max() > 1


class TestInitialWeights:
    @FORMS
    def test_radford_2016_section_4(self, preset: Callable[..., DCGANConfig]) -> None:
        config = preset(initialization="dcgan")
        weights, scales = [], []
        for network in (Generator(config), Discriminator(config)):
            for layer in network.layers:
                if isinstance(layer, NORMS):
                    scales.append(layer.weight.flatten())
                    assert not layer.bias.any()
                elif any(True for _ in layer.parameters()):
                    weights.append(layer.weight.flatten())
                    assert layer.bias is None or not layer.bias.any()
        for weight in weights:
            if weight.numel() >= 20_000:
                torch.testing.assert_close(weight.std(), torch.tensor(0.02), **named("std_of_20000"))
        values, scale = torch.cat(weights), torch.cat(scales)
        assert abs(values.mean()) < 4 * 0.02 / len(values) ** 0.5
        assert abs(scale.mean() - 1) < 4 * 0.02 / len(scale) ** 0.5
        assert abs(scale.std() - 0.02) < 4 * 0.02 / (2 * len(scale)) ** 0.5

    @pytest.mark.parametrize(
        ("network", "plain"), [(Generator, plain_paper_generator), (Discriminator, plain_paper_discriminator)]
    )
    def test_the_document_s_are_pytorch_s_own(self, network: type, plain: Callable[[], nn.Sequential]) -> None:
        torch.manual_seed(5)
        theirs = plain().state_dict()
        torch.manual_seed(5)
        ours = network(DCGANConfig.document_pytorch()).state_dict()
        assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))

    def test_the_tutorial_s_are_glorot_s(self) -> None:
        config = DCGANConfig.document_tutorial()
        generator, discriminator = Generator(config), Discriminator(config)
        fans = {
            generator.layers[0].weight: 100 + 12_544,
            generator.layers[4].weight: (256 + 128) * 25,
            generator.layers[7].weight: (128 + 64) * 25,
            discriminator.layers[3].weight: (64 + 128) * 25,
        }
        for weight, fan in fans.items():
            bound = math.sqrt(6 / fan)
            assert weight.abs().max() <= bound
            torch.testing.assert_close(weight.std(), torch.tensor(bound / 3**0.5), **named("std_of_20000"))
        assert not any(bias.any() for name, bias in discriminator.named_parameters() if name.endswith("bias"))
        for layer in (generator.layers[1], generator.layers[5], generator.layers[8]):
            assert torch.equal(layer.weight, torch.ones_like(layer.weight))
            assert not layer.bias.any()

    def test_the_seed_decides(self) -> None:
        def first(seed: int) -> Tensor:
            torch.manual_seed(seed)
            return next(Generator(DCGANConfig(**TINY)).parameters())

        assert torch.equal(first(1), first(1))
        assert not torch.equal(first(1), first(2))


class TestModes:
    def test_running_statistics_take_a_share_of_each_batch(self) -> None:
        """From 0 and 1 on, a tenth of mean and variance in the paper's form, a hundredth in Keras's."""
        for preset, share in ((DCGANConfig.radford2016, 0.1), (DCGANConfig.document_tutorial, 0.01)):
            generator, latents = Generator(preset()), torch.randn(6, 100)
            place = next(i for i, layer in enumerate(generator.layers) if isinstance(layer, NORMS))
            hidden, norm = generator.layers[:place](latents).detach(), generator.layers[place]
            generator(latents)
            dims = [dim for dim in range(hidden.dim()) if dim != 1]
            mean, variance = hidden.mean(dims), hidden.var(dims)
            torch.testing.assert_close(norm.running_mean, share * mean, **for_dtype(torch.float32))
            expected = (1 - share) + share * variance
            torch.testing.assert_close(norm.running_var, expected, **for_dtype(torch.float32))

    def test_neighbours_count_in_training_and_not_in_evaluation(self) -> None:
        networks = {
            Generator: torch.randn(4, 100, dtype=torch.float64),
            Discriminator: torch.randn(4, 1, 28, 28, dtype=torch.float64),
        }
        for network, inputs in networks.items():
            model = network(DCGANConfig()).double()
            assert not torch.allclose(model(inputs)[:2], model(inputs[:2]))
            model.eval()
            torch.testing.assert_close(model(inputs)[:2], model(inputs[:2]), **for_dtype(torch.float64))

    def test_dropout_stands_in_the_tutorial_s_discriminator_alone(self) -> None:
        document = DCGANConfig.document_tutorial()
        found = {
            (config.form, network.__name__): [m.p for m in network(config).modules() if isinstance(m, nn.Dropout)]
            for config in (document, DCGANConfig())
            for network in (Generator, Discriminator)
        }
        assert found.pop(("tutorial", "Discriminator")) == [0.3, 0.3]
        assert not any(found.values())
        images = torch.randn(2, 1, 28, 28)
        discriminator = Discriminator(document)
        assert not torch.equal(discriminator(images), discriminator(images))
        discriminator.eval()
        assert torch.equal(discriminator(images), discriminator(images))

    def test_one_latent_alone_makes_an_image_in_training_mode(self) -> None:
        assert Generator(DCGANConfig(**TINY))(torch.randn(1, 3)).isfinite().all()
        assert Discriminator(DCGANConfig(**TINY))(torch.randn(1, 2, 28, 28)).isfinite().all()


class TestDerivatives:
    @FORMS
    @pytest.mark.parametrize("training", [True, False])
    def test_of_first_and_second_order(self, preset: Callable[..., DCGANConfig], training: bool) -> None:
        config = preset(8, **{**TINY, "image_channels": 1, "dropout": 0.0, "initialization": "normal01"})
        inputs = {
            Generator: torch.randn(3, 3, dtype=torch.float64),
            Discriminator: torch.randn(3, 1, 8, 8, dtype=torch.float64),
        }
        for network, x in inputs.items():
            model = network(config).double().train(training)
            if network is Generator:
                nn.init.normal_(model.layers[-2].weight, std=0.2)  # where tanh is not flat
            names = [name for name, _ in model.named_parameters()]
            values = [p.detach().clone().requires_grad_() for p in model.parameters()]

            def call(x: Tensor, *values: Tensor, model: nn.Module = model, names: list[str] = names) -> Tensor:
                return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x,))

            arguments = (x.requires_grad_(), *values)
            assert gradcheck(call, arguments, fast_mode=True)
            assert gradgradcheck(call, arguments, fast_mode=True)

    def test_the_small_discriminators_in_full(self) -> None:
        for preset in (DCGANConfig.radford2016, DCGANConfig.document_tutorial):
            config = preset(8, **{**TINY, "image_channels": 1, "dropout": 0.0, "initialization": "normal01"})
            model = Discriminator(config).double()
            images = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
            assert gradcheck(model, (images,))
            assert gradgradcheck(model, (images,))


class TestForms:
    @FORMS
    def test_channels_last_gives_the_same(self, preset: Callable[..., DCGANConfig]) -> None:
        config = preset(16, **TINY)
        generator, discriminator = Generator(config).double().eval(), Discriminator(config).double().eval()
        latents = torch.randn(3, 3, dtype=torch.float64)
        images = generator(latents)
        logits = discriminator(images)
        generator.to(memory_format=torch.channels_last)
        discriminator.to(memory_format=torch.channels_last)
        again = generator(latents).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(again, images, **for_dtype(torch.float64))
        torch.testing.assert_close(discriminator(again), logits, **for_dtype(torch.float64))

    @FORMS
    def test_bfloat16_autocast_points_where_float32_does(self, preset: Callable[..., DCGANConfig]) -> None:
        config = preset(16, base_channels=8, dropout=0.0)
        generator, discriminator = Generator(config), Discriminator(config)
        latents = torch.randn(8, 100)
        gradients = []
        for enabled in (False, True):
            generator.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                images = generator(latents)
                logits = discriminator(images)
            assert logits.dtype == images.dtype == (torch.bfloat16 if enabled else torch.float32)
            (images.float().square().mean() + logits.float().square().mean()).backward()
            gradients.append(torch.cat([p.grad.flatten() for p in generator.parameters()]))
        assert all(gradient.isfinite().all() for gradient in gradients)
        cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
        torch.testing.assert_close(cosine, torch.tensor(1.0), **named("bfloat16 direction"))


class TestClasses:
    CONFIG = DCGANConfig.radford2016(8, num_classes=3, **TINY)

    @pytest.mark.parametrize("form", ["paper", "tutorial"])
    def test_labels_are_one_hot_numbers_and_one_hot_planes(self, form: str) -> None:
        """The same as networks without classes that are given the vectors and the planes as inputs."""
        config = self.CONFIG.replace(form=form)
        labels, latents, images = torch.tensor([2, 0]), torch.randn(2, 3), torch.randn(2, 2, 8, 8)
        rows = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
        wider = Generator(config.replace(num_classes=0, latent_dim=6)).eval()
        generator = Generator(config).eval()
        wider.load_state_dict(generator.state_dict())
        assert torch.equal(generator(latents, labels), wider(torch.cat([latents, rows], 1)))
        planes = torch.zeros(2, 3, 8, 8)
        planes[0, 2], planes[1, 0] = 1, 1
        wider = Discriminator(config.replace(num_classes=0, image_channels=5)).eval()
        discriminator = Discriminator(config).eval()
        wider.load_state_dict(discriminator.state_dict())
        assert torch.equal(discriminator(images, labels.to(torch.uint8)), wider(torch.cat([images, planes], 1)))

    def test_samples_have_the_classes_in_turn(self) -> None:
        generator = Generator(self.CONFIG)
        given_labels = generator.sample(5, seed=1, labels=torch.tensor([0, 1, 2, 0, 1]))
        assert torch.equal(generator.sample(5, seed=1), given_labels)
        assert not torch.equal(generator.sample(5, seed=1, labels=torch.zeros(5, dtype=torch.int64)), given_labels)
        split = generator.sample(5, seed=1, batch_size=2)
        torch.testing.assert_close(split, given_labels, **for_dtype(torch.float32))

    def test_labels_that_do_not_fit_are_told(self) -> None:
        networks = {Generator: torch.randn(2, 3), Discriminator: torch.randn(2, 2, 8, 8)}
        for network, inputs in networks.items():
            with pytest.raises(ValueError, match=r"`labels` is None, but must be class indices \[N\] from 0 to 2"):
                network(self.CONFIG)(inputs)
            with pytest.raises(ValueError, match=r"`labels` is \(3,\), but must be \[2\]"):
                network(self.CONFIG)(inputs, torch.zeros(3, dtype=torch.int64))
            with pytest.raises(ValueError, match="no classes"):
                network(self.CONFIG.replace(num_classes=0))(inputs, torch.zeros(2, dtype=torch.int64))
        with pytest.raises(ValueError, match=r"`labels` is \(4,\), but must be \[2\]"):
            Generator(self.CONFIG).sample(2, seed=0, labels=torch.zeros(4, dtype=torch.int64))


class TestSamples:
    def test_are_made_in_evaluation_mode_and_change_nothing(self) -> None:
        generator = Generator(DCGANConfig(**TINY))
        generator.layers[2].eval()  # a layer that its user has frozen
        state = {name: value.clone() for name, value in generator.state_dict().items()}
        modes = [module.training for module in generator.modules()]
        samples = generator.sample(4, seed=3)
        assert [module.training for module in generator.modules()] == modes
        assert all(torch.equal(value, state[name]) for name, value in generator.state_dict().items())
        latents = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
        assert torch.equal(generator.sample_latents(4, seed=3), latents)
        assert torch.equal(samples, generator.eval()(latents))
        assert not samples.requires_grad
        assert samples.shape == (4, 2, 28, 28)

    def test_are_functions_of_the_seed(self) -> None:
        generator = Generator(DCGANConfig(**TINY))
        assert torch.equal(generator.sample(3, seed=1), generator.sample(3, seed=1))
        assert not torch.equal(generator.sample(3, seed=1), generator.sample(3, seed=2))
        torch.manual_seed(1)
        assert torch.equal(generator.sample(3), generator.sample(3, seed=1))
        split = generator.sample(5, seed=1, batch_size=2)
        torch.testing.assert_close(split, generator.sample(5, seed=1), **for_dtype(torch.float32))

    def test_truncated_latents_stay_within_their_bound(self) -> None:
        generator = Generator(DCGANConfig(**TINY)).double()
        latents = generator.sample_latents(500, seed=1, truncation=0.5)
        assert latents.dtype == torch.float64
        assert 0.45 < latents.abs().max() <= 0.5
        samples = generator.sample(500, seed=1, truncation=0.5, batch_size=500)
        assert torch.equal(samples, generator.eval()(latents).detach())

    def test_numbers_that_do_not_fit_are_told(self) -> None:
        generator = Generator(DCGANConfig(**TINY))
        with pytest.raises(ValueError, match="`count` is 0, but must be at least 1"):
            generator.sample(0, seed=1)
        with pytest.raises(ValueError, match="`batch_size` is 0"):
            generator.sample(1, batch_size=0)
        with pytest.raises(ValueError, match="`truncation` is -1"):
            generator.sample_latents(1, truncation=-1.0)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 1, 1), (3,)])
def test_latents_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`latents` is .* must be \[N, 3\]"):
        Generator(DCGANConfig(**TINY))(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 2, 28, 27), (2, 1, 28, 28), (2, 28, 28), (2, 2, 32, 32)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`images` is .* must be \[N, 2, 28, 28\]"):
        Discriminator(DCGANConfig(**TINY))(torch.zeros(shape))


@FORMS
def test_json_there_and_back(preset: Callable[..., DCGANConfig]) -> None:
    config = preset(64, image_channels=3, num_classes=10)
    assert DCGANConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["resolution"] == 64
    assert len({config, DCGANConfig.from_dict(config.to_dict())}) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("form", "dense"),
        ("resolution", 4),
        ("resolution", 7),
        ("resolution", 9),
        ("resolution", 30),
        ("resolution", 100),
        ("resolution", 1280),
        ("resolution", 28.0),
        ("latent_dim", 0),
        ("latent_dim", 4097),
        ("image_channels", 0),
        ("image_channels", 1025),
        ("num_classes", -1),
        ("num_classes", True),
        ("num_classes", 1025),
        ("base_channels", 0),
        ("base_channels", 1025),
        ("max_channels", 0),
        ("max_channels", 2049),
        ("slope", -0.1),
        ("slope", 1.1),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("norm_momentum", 0.0),
        ("norm_momentum", 1.1),
        ("norm_eps", 0.0),
        ("norm_eps", float("nan")),
        ("initialization", "zeros"),
    ],
)
def test_what_cannot_be_is_refused(name: str, value: object) -> None:
    others = {"form": "tutorial"} if name == "dropout" else {}
    with pytest.raises(ValueError, match=f"`{name}` is"):
        DCGANConfig.from_dict({**others, name: value})


def test_dropout_is_refused_where_nothing_would_use_it() -> None:
    with pytest.raises(ValueError, match=r"`dropout` is 0\.3, but must be 0 in the paper's form"):
        DCGANConfig(dropout=0.3)
