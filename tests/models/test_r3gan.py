"""R3GAN: parameters by hand, both networks written out in plain torch, fix-up weights, penalties, classes, samples."""

import copy
import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from ganblocks.functional import normal_latents, truncated_normal_latents
from ganblocks.losses import r1_penalty, r2_penalty
from ganblocks.models.r3gan import Discriminator, Generator, R3GANConfig
from tolerances import for_dtype, named

EXACT = for_dtype(torch.float64)
Weights = dict[str, Tensor]


def small(resolution: int = 16, **overrides: object) -> R3GANConfig:
    """Three stages; the first two have one width, so that one transition has a convolution and the other has none."""
    values = {"latent_dim": 5, "image_channels": 2, "widths": (6, 6, 4), "expansion": 2, "group_size": 4, **overrides}
    return R3GANConfig.from_dict({"resolution": resolution, **values})


def tiny(**overrides: object) -> R3GANConfig:
    values = {"latent_dim": 3, "image_channels": 1, "widths": (4, 2), "blocks_per_stage": 1, "group_size": 2}
    return small(8, **{**values, **overrides})


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def redrawn(network: nn.Module) -> nn.Module:
    """In float64, with weights under which no part of the network is idle."""
    for parameter in network.double().parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 4
        nn.init.normal_(parameter, std=fan_in**-0.5)
    return network


def block_parameters(width: int, expansion: int, group_size: int) -> int:
    wide = expansion * width
    return (width * wide + wide) + (wide * group_size * 9 + wide) + wide * width


# Both networks once more, from the tensors in their state: resampling as one convolution with four taps and before the
# 1x1 convolution in both directions, groups one by one.

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


def plain_resampled(x: Tensor, *, up: bool) -> Tensor:
    C = x.shape[1]
    kernel = torch.outer(TAPS, TAPS).expand(C, 1, 4, 4) / (16 if up else 64)
    return (F.conv_transpose2d if up else F.conv2d)(x, kernel, stride=2, padding=1, groups=C)


def plain_act(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def plain_stage(weights: Weights, config: R3GANConfig, side: int, x: Tensor) -> Tensor:
    transition = weights.get(f"stages.{side}.resample.conv.weight")
    if transition is not None:
        x = torch.einsum("nihw,oi->nohw", x, transition[:, :, 0, 0])
    for index in range(config.blocks_per_stage):
        names = [f"stages.{side}.blocks.{index}.{layer}" for layer in ("expand", "mix", "reduce")]
        expand, mix, reduce = [weights[f"{name}.weight"] for name in names]
        biases = [weights[f"{name}.bias"] for name in names[:2]]
        y = torch.einsum("nihw,oi->nohw", x, expand[:, :, 0, 0]) + biases[0][:, None, None]
        parts = zip(
            *[tensor.split(config.group_size, dim) for tensor, dim in ((plain_act(y), 1), (mix, 0))], strict=True
        )
        y = torch.cat([F.conv2d(part, kernel, padding=1) for part, kernel in parts], 1) + biases[1][:, None, None]
        x = x + torch.einsum("nihw,oi->nohw", plain_act(y), reduce[:, :, 0, 0])
    return x


def plain_generator(weights: Weights, config: R3GANConfig, latents: Tensor, labels: Tensor | None = None) -> Tensor:
    if labels is not None:
        latents = torch.cat([latents, torch.stack([weights["embedding.weight"][label] for label in labels])], 1)
    x = torch.einsum("nz,cz,chw->nchw", latents, weights["scales.weight"], weights["basis"])
    side = 4
    x = plain_stage(weights, config, side, x)
    while side < config.resolution:
        side *= 2
        x = plain_stage(weights, config, side, plain_resampled(x, up=True))
    return torch.einsum("nihw,oi->nohw", x, weights["to_image.weight"][:, :, 0, 0])


def plain_discriminator(weights: Weights, config: R3GANConfig, images: Tensor, labels: Tensor | None = None) -> Tensor:
    x = torch.einsum("nihw,oi->nohw", images, weights["from_image.weight"][:, :, 0, 0])
    side = config.resolution
    x = plain_stage(weights, config, side, x)
    while side > 4:
        side //= 2
        x = plain_stage(weights, config, side, plain_resampled(x, up=False))
    features = torch.einsum("nchw,chw,oc->no", x, weights["basis.weight"][:, 0], weights["score.weight"])
    if labels is None:
        return features[:, 0]
    return torch.stack(
        [feature @ weights["embedding.weight"][label] for feature, label in zip(features, labels, strict=True)]
    )


def drawn_inputs(network: type, config: R3GANConfig, N: int = 3) -> Tensor:
    shape = (config.latent_dim,) if network is Generator else (config.image_channels, *[config.resolution] * 2)
    return torch.randn(N, *shape, dtype=torch.float64)


NETWORKS = pytest.mark.parametrize("network", [Generator, Discriminator])
CLASSES = pytest.mark.parametrize("num_classes", [0, 3])


def drawn_labels(num_classes: int) -> Tensor | None:
    return torch.tensor([2, 0, 1]) if num_classes else None


class TestTotals:
    @pytest.mark.parametrize(
        ("config", "totals"),
        [(R3GANConfig.small32(), (1_328_736, 1_312_608)), (R3GANConfig.small64(), (1_714_016, 1_697_888))],
    )
    def test_of_the_presets(self, config: R3GANConfig, totals: tuple[int, int]) -> None:
        assert (parameters(Generator(config)), parameters(Discriminator(config))) == totals

    def test_of_small32_part_by_part(self) -> None:
        generator, discriminator = Generator(R3GANConfig()), Discriminator(R3GANConfig())
        blocks = {4: 336_896, 8: 203_520, 16: 64_896, 32: 13_440}
        for network in (generator, discriminator):
            for side, total in blocks.items():
                assert [parameters(block) for block in network.stages[str(side)].blocks] == [total, total]
        up = {side: parameters(generator.stages[str(side)].resample) for side in (8, 16, 32)}
        down = {side: parameters(discriminator.stages[str(side)].resample) for side in (16, 8, 4)}
        assert up == {8: 256 * 192, 16: 192 * 96, 32: 96 * 32}
        assert down == {16: 32 * 96, 8: 96 * 192, 4: 192 * 256}
        ends = [generator.scales.weight, generator.basis, generator.to_image.weight]
        assert [end.numel() for end in ends] == [64 * 256, 256 * 16, 32 * 3]
        ends = [discriminator.from_image.weight, discriminator.basis.weight, discriminator.score.weight]
        assert [end.numel() for end in ends] == [3 * 32, 256 * 16, 256]

    @given(
        widths=st.tuples(*[st.sampled_from([4, 8, 12])] * 3),
        Z=st.integers(1, 5),
        C=st.integers(1, 3),
        K=st.integers(0, 4),
        blocks=st.integers(1, 3),
        expansion=st.integers(1, 3),
        group_size=st.sampled_from([1, 2, 4]),
    )
    def test_of_any_configuration_by_the_formula(
        self, widths: tuple[int, ...], Z: int, C: int, K: int, blocks: int, expansion: int, group_size: int
    ) -> None:
        config = R3GANConfig(16, Z, C, K, widths, blocks, expansion, group_size)
        generator, discriminator = Generator(config), Discriminator(config)
        body = sum(blocks * block_parameters(width, expansion, group_size) for width in widths)
        body += sum(a * b for a, b in itertools.pairwise(widths) if a != b) + C * widths[-1]
        first = widths[0]
        assert parameters(generator) == body + 16 * first + first * Z * (2 if K else 1) + K * Z
        assert parameters(discriminator) == body + 16 * first + first * (Z if K else 1) + K * Z

    def test_nothing_but_parameters_is_in_the_state(self) -> None:
        for network in (Generator(small(num_classes=2)), Discriminator(small(num_classes=2))):
            assert network.state_dict().keys() == dict(network.named_parameters()).keys()

    def test_names_of_the_weights_are_those_of_the_first_release(self) -> None:
        block = ("expand.weight", "expand.bias", "mix.weight", "mix.bias", "reduce.weight")
        blocks = {f"stages.{side}.blocks.0.{name}" for side in (4, 8) for name in block}
        names = blocks | {
            "scales.weight",
            "basis",
            "embedding.weight",
            "to_image.weight",
            "stages.8.resample.conv.weight",
        }
        assert Generator(tiny(num_classes=2)).state_dict().keys() == names
        names = blocks | {"from_image.weight", "basis.weight", "score.weight", "stages.4.resample.conv.weight"}
        assert Discriminator(tiny()).state_dict().keys() == names


class TestShapes:
    @pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128, 256])
    def test_maps_of_every_stage(self, resolution: int) -> None:
        widths = tuple(4 * k for k in range(resolution.bit_length() - 2, 0, -1))
        config, seen = small(resolution, widths=widths, blocks_per_stage=1), []
        generator, discriminator = Generator(config), Discriminator(config)
        for stage in (*generator.stages.values(), *discriminator.stages.values()):
            stage.register_forward_hook(lambda layer, given, output: seen.append(tuple(output.shape)))
        images = generator(torch.randn(2, 5))
        logits = discriminator(images)
        maps = [(2, width, side, side) for width, side in zip(widths, config.sides, strict=True)]
        assert seen == [*maps, *reversed(maps)]
        assert images.shape == (2, 2, resolution, resolution)
        assert logits.shape == (2,)

    @given(
        resolution=st.sampled_from([8, 16]),
        C=st.integers(1, 3),
        K=st.integers(0, 3),
        N=st.integers(0, 3),
        widths=st.tuples(*[st.integers(1, 4)] * 3),
    )
    def test_any_batch_any_channels_any_classes(
        self, resolution: int, C: int, K: int, N: int, widths: tuple[int, ...]
    ) -> None:
        widths = widths[: resolution.bit_length() - 2]
        config = R3GANConfig(resolution, 3, C, K, widths, blocks_per_stage=1, group_size=1)
        labels = torch.randint(K, (N,)) if K else None
        images = Generator(config)(torch.randn(N, 3), labels)
        assert images.shape == (N, C, resolution, resolution)
        logits = Discriminator(config)(images, labels)
        assert logits.shape == (N,)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("shape", [(2, 2, 16, 8), (2, 1, 16, 16), (2, 16, 16), (2, 2, 32, 32)])
    def test_images_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"`images` is .* must be \[N, 2, 16, 16\]"):
            Discriminator(small())(torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(2, 4), (5,), (2, 5, 1, 1)])
    def test_latents_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"`latents` is .* must be \[N, 5\]"):
            Generator(small())(torch.zeros(shape))


class TestPlainTwins:
    @CLASSES
    @NETWORKS
    def test_values_and_all_gradients(self, network: type, num_classes: int) -> None:
        config = small(num_classes=num_classes)
        model, labels = redrawn(network(config)), drawn_labels(num_classes)
        weights = {name: value.clone().requires_grad_() for name, value in model.state_dict().items()}
        plain = partial({Generator: plain_generator, Discriminator: plain_discriminator}[network], weights, config)
        inputs, results = drawn_inputs(network, config), []
        for call, tensors in (
            (model, [*model.parameters()]),
            (plain, [weights[n] for n, _ in model.named_parameters()]),
        ):
            x = inputs.clone().requires_grad_()
            y = call(x, labels)
            direction = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape)
            results.append([y, *torch.autograd.grad((y * direction).sum(), [x, *tensors])])
            assert torch.equal(x, inputs)
        for ours, theirs in zip(*results, strict=True):
            assert theirs.abs().max() > 0
            torch.testing.assert_close(ours, theirs, **EXACT)

    @CLASSES
    def test_gradients_of_a_loss_with_both_penalties(self, num_classes: int) -> None:
        config = small(num_classes=num_classes)
        model, labels = redrawn(Discriminator(config)), drawn_labels(num_classes)
        weights = {name: value.clone().requires_grad_() for name, value in model.state_dict().items()}
        real, fake = (drawn_inputs(Discriminator, config) for _ in range(2))
        results = []
        for call, tensors in (
            (model, [*model.parameters()]),
            (partial(plain_discriminator, weights, config), [weights[n] for n, _ in model.named_parameters()]),
        ):
            critic = partial(call, labels=labels)
            loss = critic(real).mean() + r1_penalty(critic, real) + r2_penalty(critic, fake)
            results.append([loss, *torch.autograd.grad(loss, tensors)])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, **EXACT)

    @NETWORKS
    def test_channels_last_gives_the_same(self, network: type) -> None:
        model = redrawn(network(small()))
        inputs = drawn_inputs(network, model.config)
        expected = model(inputs)
        model = model.to(memory_format=torch.channels_last)
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(model(inputs), expected, **EXACT)


class TestResampling:
    def test_up_is_bilinear_within_the_border(self) -> None:
        generator, x = Generator(small()), torch.randn(2, 6, 5, 6, dtype=torch.float64)
        result = generator.stages["8"].resample(x)  # 6 to 6 channels: no convolution
        expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        torch.testing.assert_close(result[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], **EXACT)

    def test_down_is_bilinear_within_the_border(self) -> None:
        discriminator, x = Discriminator(small()), torch.randn(2, 6, 8, 10, dtype=torch.float64)
        result = discriminator.stages["4"].resample(x)
        expected = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False, antialias=True)
        torch.testing.assert_close(result[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], **EXACT)

    def test_the_two_are_adjoint_but_for_a_factor_of_4(self) -> None:
        up, down = Generator(small()).stages["8"].resample, Discriminator(small()).stages["4"].resample
        x, y = torch.randn(1, 6, 4, 4, dtype=torch.float64), torch.randn(1, 6, 8, 8, dtype=torch.float64)
        torch.testing.assert_close((up(x) * y).sum(), 4 * (x * down(y)).sum(), **EXACT)

    def test_convolutions_see_the_smaller_side(self) -> None:
        config, seen = small(8, widths=(6, 4)), []
        generator, discriminator = Generator(config), Discriminator(config)
        for layer in (generator.stages["8"].resample.conv, discriminator.stages["4"].resample.conv):
            layer.register_forward_hook(lambda layer, given, output: seen.append(tuple(output.shape[1:])))
        discriminator(generator(torch.randn(1, 5)))
        assert seen == [(4, 4, 4), (6, 4, 4)]


class TestInitialWeights:
    @NETWORKS
    def test_every_block_is_the_identity(self, network: type) -> None:
        for stage in network(small()).stages.values():
            for block in stage.blocks:
                x = torch.randn(2, block.reduce.out_channels, 4, 4)
                assert torch.equal(block(x), x)
                assert not block.reduce.weight.any()
                assert block.reduce.bias is None
                assert not block.expand.bias.any()
                assert not block.mix.bias.any()

    def test_so_the_networks_start_linear(self) -> None:
        config = small(num_classes=2)
        generator, discriminator = Generator(config).double(), Discriminator(config).double()
        nn.init.zeros_(generator.embedding.weight)
        first, second = drawn_inputs(Generator, config, 2).split(1)
        labels = torch.tensor([1])
        images = [generator(latents, labels) for latents in (first, second, first - 3 * second)]
        torch.testing.assert_close(images[2], images[0] - 3 * images[1], **EXACT)
        logits = [discriminator(image, labels) for image in images]
        torch.testing.assert_close(logits[2], logits[0] - 3 * logits[1], **EXACT)

    @NETWORKS
    def test_the_others_of_a_block_have_the_spread_of_he_and_fix_up(self, network: type) -> None:
        gain = math.sqrt(2 / 1.04) * 8**-0.25  # 4 stages of 2 blocks, of 3 layers each
        model, count = network(R3GANConfig()), 0
        for side, width in ((4, 256), (8, 192), (16, 96)):
            for block in model.stages[str(side)].blocks:
                for weight, fan_in in ((block.expand.weight, width), (block.mix.weight, 16 * 9)):
                    if weight.numel() >= 20_000:
                        expected = torch.tensor(gain / fan_in**0.5)
                        torch.testing.assert_close(weight.std(), expected, **named("std_of_20000"))
                        assert weight.mean().abs() < 4 * expected / weight.numel() ** 0.5
                        count += 1
        assert count == 10

    def test_more_blocks_are_scaled_down_by_their_fourth_root(self) -> None:
        weights = []
        for blocks in (1, 16):
            torch.manual_seed(3)
            weights.append(
                Generator(small(8, widths=(6, 4), blocks_per_stage=blocks)).stages["4"].blocks[0].expand.weight
            )
        torch.testing.assert_close(weights[0], 2 * weights[1], **for_dtype(torch.float32))

    def test_what_no_activation_follows_has_a_gain_of_1(self) -> None:
        config = R3GANConfig(widths=(256, 192, 160, 144), image_channels=64, num_classes=3, latent_dim=96)
        generator, discriminator = Generator(config), Discriminator(config)
        fans = {
            generator.scales.weight: 192,
            generator.stages["8"].resample.conv.weight: 256,
            generator.stages["16"].resample.conv.weight: 192,
            generator.stages["32"].resample.conv.weight: 160,
            discriminator.stages["16"].resample.conv.weight: 144,
            discriminator.stages["4"].resample.conv.weight: 192,
            discriminator.score.weight: 256,
        }
        for weight, fan_in in fans.items():
            assert weight.numel() >= 20_000
            torch.testing.assert_close(weight.std(), torch.tensor(fan_in**-0.5), **named("std_of_20000"))
        few = {generator.to_image.weight: 144, discriminator.from_image.weight: 64, discriminator.basis.weight: 16}
        few |= {generator.basis: 1, generator.embedding.weight: 1, discriminator.embedding.weight: 96}
        for weight, fan_in in few.items():
            assert float(weight.detach().std()) * fan_in**0.5 == pytest.approx(1, rel=named("initial spread")["rtol"])

    @NETWORKS
    def test_the_seed_decides(self, network: type) -> None:
        states = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            states.append(torch.cat([p.flatten() for p in network(small()).parameters()]))
        assert torch.equal(states[0], states[1])
        assert not torch.equal(states[0], states[2])


class TestDerivatives:
    @CLASSES
    @NETWORKS
    def test_of_first_and_second_order_by_inputs_and_weights(self, network: type, num_classes: int) -> None:
        model = redrawn(network(tiny(num_classes=num_classes)))
        names = [name for name, _ in model.named_parameters()]
        values = [p.detach().clone().requires_grad_() for p in model.parameters()]
        labels = drawn_labels(num_classes)
        inputs = drawn_inputs(network, model.config).requires_grad_()

        def call(x: Tensor, *values: Tensor) -> Tensor:
            return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (x, labels))

        assert gradcheck(call, (inputs, *values), fast_mode=True)
        assert gradgradcheck(call, (inputs, *values), fast_mode=True)

    @CLASSES
    def test_penalties_are_those_of_finite_differences(self, num_classes: int) -> None:
        model, labels, step = redrawn(Discriminator(tiny(num_classes=num_classes))), drawn_labels(num_classes), 1e-6
        images = drawn_inputs(Discriminator, model.config)

        def critic(x: Tensor) -> Tensor:
            return model(x, None if labels is None else labels.repeat(len(x) // 3))

        with torch.no_grad():
            steps = step * torch.eye(64, dtype=torch.float64).view(64, 1, 1, 8, 8)  # one pixel each
            ends = [critic((images + sign * steps).flatten(0, 1)).view(64, 3) for sign in (1, -1)]
        expected = ((ends[0] - ends[1]) / (2 * step)).square().sum(0).mean()
        torch.testing.assert_close(r1_penalty(critic, images), expected, **named("finite_difference"))
        torch.testing.assert_close(r2_penalty(critic, images), expected, **named("finite_difference"))

    def test_the_weights_gradient_of_a_penalty_is_that_of_finite_differences(self) -> None:
        model, step = redrawn(Discriminator(tiny())), 1e-6
        images = drawn_inputs(Discriminator, model.config)
        weights = list(model.parameters())
        gradients = torch.autograd.grad(r1_penalty(model, images), weights, materialize_grads=True)
        directions = [torch.randn_like(weight) for weight in weights]
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                moved = [w + sign * step * d for w, d in zip(weights, directions, strict=True)]
            names = [name for name, _ in model.named_parameters()]
            critic = partial(torch.func.functional_call, model, dict(zip(names, moved, strict=True)))
            ends.append(r1_penalty(critic, images).detach())
        slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, **named("finite_difference"))

    def test_penalties_are_finite_at_the_start_for_any_image(self) -> None:
        discriminator = Discriminator(small())
        for images in (torch.zeros(2, 2, 16, 16), torch.full((2, 2, 16, 16), 1e4), torch.randn(2, 2, 16, 16)):
            penalty = r1_penalty(discriminator, images) + r2_penalty(discriminator, -images)
            penalty.backward()
            assert penalty.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in discriminator.parameters())

    def test_the_generator_learns_through_the_discriminator_from_the_start(self) -> None:
        generator, discriminator = Generator(small()), Discriminator(small())
        discriminator(generator(torch.randn(4, 5))).sum().backward()
        for name, parameter in generator.named_parameters():
            behind_zero = ".expand." in name or ".mix." in name
            assert bool(parameter.grad.any()) != behind_zero, name

    def test_bfloat16_trains_both_networks_in_the_direction_of_float32(self) -> None:
        config = small(32, widths=(32, 16, 16, 8), num_classes=3)
        generator, discriminator = redrawn(Generator(config)).float(), redrawn(Discriminator(config)).float()
        latents, real, labels = torch.randn(6, 5), torch.randn(6, 2, 32, 32), torch.arange(6) % 3
        gradients = []
        for enabled in (False, True):
            networks = (copy.deepcopy(generator), copy.deepcopy(discriminator))
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                fake = networks[0](latents, labels)
                assert fake.dtype == (torch.bfloat16 if enabled else torch.float32)
                critic = partial(networks[1], labels=labels)
                (critic(fake).float().square().mean() + r1_penalty(critic, real)).backward()
            gradients.append([torch.cat([p.grad.flatten() for p in network.parameters()]) for network in networks])
        for exact, low in zip(*gradients, strict=True):
            assert 1 - F.cosine_similarity(exact, low, dim=0) < named("bfloat16 direction")["atol"]


class TestBatches:
    @CLASSES
    @NETWORKS
    def test_neither_order_nor_neighbours_count(self, network: type, num_classes: int) -> None:
        model, labels = redrawn(network(small(num_classes=num_classes))), drawn_labels(num_classes)
        inputs, order = drawn_inputs(network, model.config), torch.tensor([2, 0, 1])
        result = model(inputs, labels)
        turned = model(inputs[order], None if labels is None else labels[order])
        torch.testing.assert_close(turned, result[order], **EXACT)
        alone = [model(inputs[i : i + 1], None if labels is None else labels[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(torch.cat(alone), result, **EXACT)


class TestClasses:
    CONFIG = tiny(num_classes=3)

    @NETWORKS
    def test_each_class_gives_another_result(self, network: type) -> None:
        model = redrawn(network(self.CONFIG))
        inputs = drawn_inputs(network, self.CONFIG, 1).expand(3, *[-1] * (1 if network is Generator else 3))
        results = model(inputs, torch.arange(3))
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert not torch.allclose(results[i], results[j])

    @NETWORKS
    def test_labels_of_any_whole_dtype(self, network: type) -> None:
        model, inputs = redrawn(network(self.CONFIG)), drawn_inputs(network, self.CONFIG, 2)
        expected = model(inputs, torch.tensor([2, 0]))
        for dtype in (torch.uint8, torch.int32):
            assert torch.equal(model(inputs, torch.tensor([2, 0], dtype=dtype)), expected)

    @NETWORKS
    def test_labels_that_do_not_fit_are_told(self, network: type) -> None:
        inputs = drawn_inputs(network, self.CONFIG, 2).float()
        with pytest.raises(ValueError, match=r"`labels` is None, but must be class indices \[N\] from 0 to 2"):
            network(self.CONFIG)(inputs)
        with pytest.raises(ValueError, match=r"`labels` is \(3,\), but must be \[2\]"):
            network(self.CONFIG)(inputs, torch.zeros(3, dtype=torch.int64))
        with pytest.raises(ValueError, match="not conditional"):
            network(tiny())(inputs, torch.zeros(2, dtype=torch.int64))
        for outside in (-1, 3):
            with pytest.raises(IndexError):
                network(self.CONFIG)(inputs, torch.tensor([0, outside]))


class TestSamples:
    def test_are_images_cut_off_at_their_range(self) -> None:
        generator = Generator(tiny())
        with torch.no_grad():
            generator.basis.mul_(3)
        latents = generator.sample_latents(4, seed=3)
        images = generator(latents)
        assert images.abs().max() > 1
        samples = generator.sample(4, seed=3)
        assert torch.equal(samples, images.clamp(-1, 1))
        assert (samples.abs() == 1).any()
        assert (samples.abs() < 1).any()

    @pytest.mark.parametrize("truncation", [None, 0.7])
    def test_are_functions_of_the_seed(self, truncation: float | None) -> None:
        generator = Generator(tiny()).double()
        latents = generator.sample_latents(5, seed=3, truncation=truncation)
        draw: Callable[..., Tensor] = normal_latents
        if truncation is not None:
            draw = partial(truncated_normal_latents, truncation=truncation)
        assert torch.equal(latents, draw(5, 3, seed=3, dtype=torch.float64))
        samples = generator.sample(5, seed=3, truncation=truncation)
        assert torch.equal(samples, generator(latents).clamp(-1, 1))
        split = generator.sample(5, seed=3, truncation=truncation, batch_size=2)
        torch.testing.assert_close(split, samples, **EXACT)
        assert not torch.equal(samples, generator.sample(5, seed=4, truncation=truncation))

    def test_without_a_seed_the_global_generator_is_drawn_from(self) -> None:
        generator = Generator(tiny())
        images = [(torch.manual_seed(seed), generator.sample(2))[1] for seed in (5, 5, 6)]
        assert torch.equal(images[0], images[1])
        assert not torch.equal(images[0], images[2])

    def test_leave_modes_weights_and_random_state_alone(self) -> None:
        generator = Generator(tiny()).train()
        generator.stages["8"].eval()
        modes, seen = [part.training for part in generator.modules()], []
        for part in generator.modules():  # a layer of the user's own may depend on the mode: spectral norm does
            part.register_forward_hook(lambda layer, given, output: seen.append(layer.training))
        state, random = copy.deepcopy(generator.state_dict()), torch.random.get_rng_state()
        assert not generator.sample(2, seed=0).requires_grad
        assert set(seen) == {False}
        assert [part.training for part in generator.modules()] == modes
        assert all(torch.equal(tensor, state[name]) for name, tensor in generator.state_dict().items())
        assert torch.equal(random, torch.random.get_rng_state())

    def test_have_the_classes_in_turn(self) -> None:
        generator = Generator(tiny(num_classes=3)).double()
        labelled = generator.sample(5, seed=1, labels=torch.tensor([0, 1, 2, 0, 1]))
        assert torch.equal(generator.sample(5, seed=1), labelled)
        assert not torch.equal(generator.sample(5, seed=1, labels=torch.zeros(5, dtype=torch.int64)), labelled)
        torch.testing.assert_close(generator.sample(5, seed=1, batch_size=2), labelled, **EXACT)

    def test_numbers_and_labels_that_do_not_fit_are_told(self) -> None:
        generator = Generator(tiny(num_classes=3))
        with pytest.raises(ValueError, match="`count` is 0, but must be at least 1"):
            generator.sample(0, seed=1)
        with pytest.raises(ValueError, match="`batch_size` is 0"):
            generator.sample(1, batch_size=0)
        with pytest.raises(ValueError, match="`truncation` is -1"):
            generator.sample_latents(1, truncation=-1.0)
        with pytest.raises(ValueError, match=r"`labels` is \(4,\), but must be \[2\]"):
            generator.sample(2, seed=0, labels=torch.zeros(4, dtype=torch.int64))
        with pytest.raises(ValueError, match="not conditional"):
            Generator(tiny()).sample(2, seed=0, labels=torch.zeros(2, dtype=torch.int64))
