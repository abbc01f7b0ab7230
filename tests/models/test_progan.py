"""ProGAN against the paper: totals, table 2, the checklist of details that copies get wrong, and its variants."""

import copy
import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from ganblocks.functional import normal_latents, truncated_normal_latents
from ganblocks.layers import MinibatchStd, WSConv2d, WSConvTranspose2d
from ganblocks.losses import gradient_penalty
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from tolerances import for_dtype, named

RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)


def small(resolution: int = 16, **overrides: object) -> ProGANConfig:
    return ProGANConfig.karras2018(resolution, **{"latent_dim": 6, "base_channels": 64, "max_channels": 8, **overrides})


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def used_parameters(config: ProGANConfig, resolution: int) -> tuple[int, int]:
    """Parameters of a network built for just that resolution, less the output layers of the smaller ones."""
    exact = config.replace(resolution=resolution)
    generator, discriminator = Generator(exact), Discriminator(exact)
    unused = [str(r) for r in exact.resolutions[:-1]]
    spare = sum(parameters(generator.to_rgb[r]) for r in unused)
    return parameters(generator) - spare, parameters(discriminator) - sum(
        parameters(discriminator.from_rgb[r]) for r in unused
    )


class TestTotals:
    def test_karras2018_at_1024_has_the_published_totals(self) -> None:
        with torch.device("meta"):
            config = ProGANConfig.karras2018()
            assert parameters(Generator(config)) == 23_079_115
            assert parameters(Discriminator(config)) == 23_087_249

    def test_document_at_1024_has_the_verified_totals(self) -> None:
        with torch.device("meta"):
            config = ProGANConfig.document()
            assert parameters(Generator(config)) == 5_772_979
            assert parameters(Discriminator(config)) == 6_366_529
            assert parameters(Generator(config.replace(latent_dim=100))) == 5_134_003

    def test_document_parameters_in_use_at_each_stage(self) -> None:
        expected = {
            4: (1_639_683, 1_642_497),
            8: (2_819_843, 2_822_657),
            16: (4_000_003, 4_002_817),
            32: (5_180_163, 5_182_977),
            64: (5_622_403, 6_067_713),
            128: (5_732_931, 6_288_897),
            256: (5_760_547, 6_344_193),
            512: (5_767_443, 6_358_017),
            1024: (5_769_163, 6_361_473),
        }
        with torch.device("meta"):
            found = {resolution: used_parameters(ProGANConfig.document(), resolution) for resolution in RESOLUTIONS}
        assert found == expected

    def test_widths_are_those_of_table_2(self) -> None:
        config = ProGANConfig.karras2018()
        assert [config.channels(r) for r in RESOLUTIONS] == [512, 512, 512, 512, 256, 128, 64, 32, 16]
        config = ProGANConfig.document()
        assert [config.channels(r) for r in RESOLUTIONS] == [256, 256, 256, 256, 128, 64, 32, 16, 8]


class TestShapes:
    @pytest.mark.parametrize("preset", [ProGANConfig.karras2018, ProGANConfig.document])
    @pytest.mark.parametrize("batch", [1, 3])
    def test_all_nine_resolutions_and_alphas_are_finite(self, preset, batch: int) -> None:
        config = preset(1024, latent_dim=5, base_channels=512, max_channels=4, image_channels=2)
        generator, discriminator = Generator(config), Discriminator(config)
        latents = torch.randn(batch, 5)
        for resolution in RESOLUTIONS if batch == 1 else RESOLUTIONS[:5]:
            for alpha in (0, 0.3, 1):
                images = generator(latents, resolution=resolution, alpha=alpha)
                scores = discriminator(images, alpha=alpha)
                assert images.shape == (batch, 2, resolution, resolution)
                assert scores.shape == (batch,)
                assert images.isfinite().all()
                assert scores.isfinite().all()

    def test_a_batch_of_one_has_finite_gradients_in_both_presets(self) -> None:
        for preset in (ProGANConfig.karras2018, ProGANConfig.document):
            config = preset(8, latent_dim=5, base_channels=32, max_channels=4)
            discriminator = Discriminator(config)
            penalty = gradient_penalty(discriminator, torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8))
            (penalty + discriminator(torch.randn(1, 3, 8, 8)).sum()).backward()
            gradients = [p.grad for p in discriminator.parameters() if p.grad is not None]
            assert len(gradients) > 5
            assert all(gradient.isfinite().all() for gradient in gradients)

    def test_default_resolution_is_the_largest(self) -> None:
        assert Generator(small(32))(torch.randn(2, 6)).shape == (2, 3, 32, 32)


class TestPaperDetails:
    def test_gains_are_sqrt2_but_1_for_linear_layers(self) -> None:
        generator, discriminator = Generator(small()), Discriminator(small())
        hidden = [m for m in [*generator.blocks.modules(), *discriminator.blocks.modules()] if isinstance(m, WSConv2d)]
        hidden += [discriminator.final.conv, discriminator.final.dense, generator.initial.conv]
        hidden += list(discriminator.from_rgb.values())
        assert {layer.gain for layer in hidden} == {math.sqrt(2)}
        assert {layer.gain for layer in generator.to_rgb.values()} == {1.0}
        assert discriminator.final.output.gain == 1.0

    def test_first_layer_is_the_paper_s_dense_layer_with_a_bias_per_channel(self) -> None:
        generator = Generator(small()).double()
        project = generator.initial.project
        assert isinstance(project, WSConvTranspose2d)
        torch.nn.init.normal_(project.bias)
        z = F.normalize(torch.randn(3, 6, dtype=torch.float64), dim=1) * 6**0.5
        dense = project.weight.reshape(6, -1) * (math.sqrt(2) / 4 / math.sqrt(6))  # gain sqrt(2)/4, fan-in Z
        expected = (z @ dense).reshape(3, 8, 4, 4) + project.bias[:, None, None]
        torch.testing.assert_close(project(z[:, :, None, None]), expected, **for_dtype(torch.float64))

    def test_generator_equals_the_paper_written_out(self) -> None:
        """Latent norm, dense, lrelu, norm, conv, lrelu, norm; up, conv, lrelu, norm, conv, lrelu, norm; linear RGB."""
        generator = Generator(small(8)).double()
        for parameter in generator.parameters():
            torch.nn.init.normal_(parameter)
        z = torch.randn(2, 6, dtype=torch.float64)

        def norm(x):
            return x / (x.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()

        def conv(x, layer, gain):
            fan_in = layer.weight[0].numel()
            weight = layer.weight * (gain / fan_in**0.5)
            return F.conv2d(x, weight, layer.bias, padding=layer.weight.shape[-1] // 2)

        def act(x):
            return torch.where(x > 0, x, 0.2 * x)

        first = generator.initial.project
        x = F.conv_transpose2d(norm(z)[:, :, None, None], first.weight * (2 / (6 * 16)) ** 0.5, first.bias)
        x = norm(act(x))
        x = norm(act(conv(x, generator.initial.conv, 2**0.5)))
        old = conv(x, generator.to_rgb["4"], 1.0)
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = norm(act(conv(x, generator.blocks["8"].conv1, 2**0.5)))
        x = norm(act(conv(x, generator.blocks["8"].conv2, 2**0.5)))
        new = conv(x, generator.to_rgb["8"], 1.0)
        blended = 0.7 * old.repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.3 * new
        torch.testing.assert_close(generator(z, alpha=0.3), blended, **for_dtype(torch.float64))
        torch.testing.assert_close(generator(z), new, **for_dtype(torch.float64))
        torch.testing.assert_close(generator(z, resolution=4), old, **for_dtype(torch.float64))

    def test_discriminator_equals_the_paper_written_out(self) -> None:
        """From RGB, conv in-in, conv in-out, box; std of groups of 4 (n and n + M together), conv, dense, linear."""
        discriminator = Discriminator(small(8)).double()
        for parameter in discriminator.parameters():
            torch.nn.init.normal_(parameter)
        images = torch.randn(8, 3, 8, 8, dtype=torch.float64)

        def conv(x, layer, gain=2**0.5, padding=None):
            weight = layer.weight * (gain / layer.weight[0].numel() ** 0.5)
            return F.conv2d(x, weight, layer.bias, padding=layer.weight.shape[-1] // 2 if padding is None else padding)

        def act(x):
            return torch.where(x > 0, x, 0.2 * x)

        def box(x):
            return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4

        new = act(conv(images, discriminator.from_rgb["8"]))
        new = act(conv(new, discriminator.blocks["8"].conv1))
        new = box(act(conv(new, discriminator.blocks["8"].conv2)))
        old = act(conv(box(images), discriminator.from_rgb["4"]))
        x = old + 0.3 * (new - old)
        channel = torch.empty(8, 1, 4, 4, dtype=torch.float64)
        for m in range(2):
            group = x[m::2]
            channel[m::2] = (group.var(0, correction=0) + 1e-8).sqrt().mean()
        x = act(conv(torch.cat([x, channel], 1), discriminator.final.conv))
        x = act(conv(x, discriminator.final.dense, padding=0)).flatten(1)
        output = discriminator.final.output
        expected = x @ output.weight[0] / x.shape[1] ** 0.5 + output.bias[0]
        torch.testing.assert_close(discriminator(images, alpha=0.3), expected, **for_dtype(torch.float64))

    def test_final_logit_is_linear(self) -> None:
        """A copy applied leaky ReLU to it: negating the last weights must negate the score."""
        discriminator = Discriminator(small(4))
        images = torch.randn(4, 3, 4, 4)
        score = discriminator(images)
        with torch.no_grad():
            discriminator.final.output.weight.neg_()
        torch.testing.assert_close(discriminator(images), -score, **named("exact"))

    def test_rgb_is_linear_and_goes_beyond_one(self) -> None:
        images = Generator(small())(torch.randn(64, 6))
        assert images.abs().max() > 1

    def test_output_scale_is_constant_across_depth_at_the_start(self) -> None:
        """PixelNorm gives features of mean square 1, and an output layer of gain 1 keeps that: many output channels."""
        generator = Generator(ProGANConfig.karras2018(32, latent_dim=64, max_channels=64, image_channels=256))
        latents = torch.randn(16, 64)
        for resolution in (4, 8, 16, 32):
            spread = generator(latents, resolution=resolution).square().mean().sqrt().item()
            assert spread == pytest.approx(1.0, rel=named("initial spread")["rtol"])

    def test_discriminator_has_no_normalisation_and_one_statistic(self) -> None:
        kinds = {type(m).__name__ for m in Discriminator(small()).modules()}
        assert "PixelNorm" not in kinds
        assert sum(isinstance(m, MinibatchStd) for m in Discriminator(small()).modules()) == 1

    def test_scores_do_not_change_when_samples_of_a_group_are_swapped(self) -> None:
        discriminator = Discriminator(small(8)).double()
        images = torch.randn(8, 3, 8, 8, dtype=torch.float64)  # groups {0,2,4,6} and {1,3,5,7}
        order = [4, 1, 2, 7, 0, 5, 6, 3]
        torch.testing.assert_close(
            discriminator(images[order]), discriminator(images)[order], **for_dtype(torch.float64)
        )
        across = [1, 0, 2, 3, 4, 5, 6, 7]
        assert not torch.allclose(discriminator(images[across]), discriminator(images)[across], rtol=0, atol=1e-9)

    def test_two_chunks_equal_two_calls(self) -> None:
        discriminator = Discriminator(small(8)).double()
        real, fake = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
        apart = torch.cat([discriminator(real), discriminator(fake)])
        together = discriminator(torch.cat([real, fake]), chunks=2)
        torch.testing.assert_close(together, apart, **for_dtype(torch.float64))


class TestGrowing:
    def test_rgb_before_upsampling_is_exact(self) -> None:
        generator = Generator(small(8)).double()
        features = torch.randn(2, 8, 4, 4, dtype=torch.float64)
        up = torch.nn.Upsample(scale_factor=2)
        rgb = generator.to_rgb["4"]
        torch.testing.assert_close(up(rgb(features)), rgb(up(features)), **for_dtype(torch.float64))

    def test_alpha_0_is_the_previous_resolution_enlarged(self) -> None:
        generator, discriminator = Generator(small(16)), Discriminator(small(16))
        latents, images = torch.randn(4, 6), torch.randn(4, 3, 16, 16)
        previous = generator(latents, resolution=8).repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(generator(latents, alpha=0), previous, **named("exact"))
        small_images = F.avg_pool2d(images, 2)
        torch.testing.assert_close(discriminator(images, alpha=0), discriminator(small_images), **named("exact"))

    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_a_tensor_alpha_gives_the_same_ends(self, alpha: float) -> None:
        generator, discriminator = Generator(small(16)), Discriminator(small(16))
        latents, images = torch.randn(4, 6), torch.randn(4, 3, 16, 16)
        tensor = torch.tensor(alpha)
        tolerance = for_dtype(torch.float32)
        torch.testing.assert_close(generator(latents, alpha=tensor), generator(latents, alpha=alpha), **tolerance)
        torch.testing.assert_close(discriminator(images, alpha=tensor), discriminator(images, alpha=alpha), **tolerance)

    def test_integer_stages_do_not_touch_the_skip_branch(self) -> None:
        generator, discriminator = Generator(small(16)), Discriminator(small(16))
        discriminator(generator(torch.randn(4, 6), alpha=1)).sum().backward()
        assert generator.to_rgb["8"].weight.grad is None
        assert discriminator.from_rgb["8"].weight.grad is None
        assert generator.to_rgb["16"].weight.grad is not None
        assert discriminator.from_rgb["16"].weight.grad is not None

    def test_a_fade_trains_both_branches(self) -> None:
        generator, discriminator = Generator(small(16)), Discriminator(small(16))
        discriminator(generator(torch.randn(4, 6), alpha=0.5), alpha=0.5).sum().backward()
        for module, name in ((generator.to_rgb, "8"), (generator.to_rgb, "16"), (discriminator.from_rgb, "8")):
            assert module[name].weight.grad.abs().sum() > 0
        assert generator.to_rgb["4"].weight.grad is None

    def test_no_jump_at_the_end_of_a_fade(self) -> None:
        generator = Generator(small(16)).double()
        latents = torch.randn(4, 6, dtype=torch.float64)
        torch.testing.assert_close(
            generator(latents, alpha=1 - 1e-9), generator(latents, alpha=1), **named("a step of 1e-9")
        )

    def test_larger_configurations_add_layers_and_change_none(self) -> None:
        keys = set(Generator(small(8)).state_dict())
        assert keys < set(Generator(small(32)).state_dict())
        larger = Generator(small(32))
        smaller = Generator(small(8))
        smaller.load_state_dict({k: v for k, v in larger.state_dict().items() if k in keys})
        latents = torch.randn(2, 6)
        torch.testing.assert_close(smaller(latents), larger(latents, resolution=8), **named("exact"))


class TestDocument:
    def test_tanh_from_8_pixels_on_but_not_at_4(self) -> None:
        generator = Generator(ProGANConfig.document(16, latent_dim=6, max_channels=8))
        latents = 10 * torch.randn(256, 6)
        assert generator(latents, resolution=4).abs().max() > 1
        assert generator(latents, resolution=8, alpha=0.5).abs().max() <= 1
        assert generator(latents, resolution=16).abs().max() <= 1

    def test_tanh_everywhere_as_an_option(self) -> None:
        generator = Generator(small(8, output_activation="tanh"))
        assert generator(torch.randn(256, 6), resolution=4).abs().max() <= 1

    def test_structure_of_the_document(self) -> None:
        config = ProGANConfig.document(8, latent_dim=6, max_channels=8)
        generator, discriminator = Generator(config), Discriminator(config)
        assert type(generator.initial.project).__name__ == "ConvTranspose2d"
        assert generator.to_rgb["8"].gain == math.sqrt(2)
        std = discriminator.final.minibatch_std
        assert (std.group_size, std.unbiased, std.eps) == (None, True, 0.0)

    def test_block_orders_differ_in_the_middle_width(self) -> None:
        paper = Discriminator(small(16, base_channels=32, max_channels=8)).blocks["16"]
        document = Discriminator(small(16, base_channels=32, max_channels=8, block_order="document")).blocks["16"]
        assert (paper.conv1.out_channels, paper.conv2.out_channels) == (4, 8)
        assert (document.conv1.out_channels, document.conv2.out_channels) == (8, 8)

    def test_no_pixel_norm_after_the_first_layer(self) -> None:
        config = small(4, initial_pixelnorm=False)
        plain, normed = Generator(config), Generator(small(4))
        normed.load_state_dict(plain.state_dict())
        latents = torch.randn(2, 6)
        assert not torch.allclose(plain(latents), normed(latents))


class TestLabels:
    def test_labels_are_normalised_together_with_the_latents(self) -> None:
        generator = Generator(small(4, num_classes=3)).double()
        latents = torch.randn(2, 6, dtype=torch.float64)
        code = torch.cat([latents, F.one_hot(torch.tensor([2, 0]), 3).double()], 1)
        code = code / (code.pow(2).mean(1, keepdim=True) + 1e-8).sqrt()
        seen = []
        handle = generator.initial.project.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        generator(latents, torch.tensor([2, 0]))
        handle.remove()
        torch.testing.assert_close(seen[0][:, :, 0, 0], code, **for_dtype(torch.float64))

    def test_class_head_and_score_come_from_one_layer(self) -> None:
        discriminator = Discriminator(small(8, num_classes=3))
        images = torch.randn(4, 3, 8, 8)
        scores, classes = discriminator.score_and_classify(images)
        torch.testing.assert_close(scores, discriminator(images), **named("exact"))
        torch.testing.assert_close(classes, discriminator.classify(images), **named("exact"))
        assert classes.shape == (4, 3)

    def test_missing_or_unwanted_labels_are_refused(self) -> None:
        with pytest.raises(ValueError, match="from 0 to 2"):
            Generator(small(4, num_classes=3))(torch.randn(2, 6))
        with pytest.raises(ValueError, match="num_classes=0"):
            Generator(small(4))(torch.randn(2, 6), torch.tensor([0, 1]))
        with pytest.raises(ValueError, match="`labels`"):
            Generator(small(4, num_classes=3))(torch.randn(2, 6), torch.tensor([0]))
        with pytest.raises(ValueError, match="num_classes"):
            Discriminator(small(4)).classify(torch.randn(2, 3, 4, 4))
        with pytest.raises(ValueError, match="num_classes"):
            Discriminator(small(4)).score_and_classify(torch.randn(2, 3, 4, 4))


class TestSecondOrder:
    def test_penalty_of_the_discriminator_passes_a_second_order_check(self) -> None:
        config = ProGANConfig.karras2018(8, latent_dim=3, base_channels=8, max_channels=2, image_channels=1)
        discriminator = Discriminator(config).double()
        images = torch.randn(4, 1, 8, 8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: discriminator(x, alpha=0.4), (images,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda x: discriminator(x, alpha=0.4), (images,), fast_mode=True)

    def test_generator_passes_a_second_order_check(self) -> None:
        config = ProGANConfig.karras2018(8, latent_dim=3, base_channels=8, max_channels=2, image_channels=1)
        generator = Generator(config).double()
        latents = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda z: generator(z, alpha=0.4), (latents,), fast_mode=True)
        assert torch.autograd.gradgradcheck(lambda z: generator(z, alpha=0.4), (latents,), fast_mode=True)


class TestSample:
    def test_same_seed_same_images_for_every_batch_size(self) -> None:
        generator = Generator(small(8))
        first = generator.sample(5, seed=3, batch_size=2)
        torch.testing.assert_close(first, generator.sample(5, seed=3, batch_size=5), **for_dtype(torch.float32))
        assert not torch.equal(first, generator.sample(5, seed=4))
        assert first.min() >= -1
        assert first.max() <= 1

    def test_sampling_leaves_mode_and_random_state_alone(self) -> None:
        generator = Generator(small(8)).train()
        before = torch.random.get_rng_state()
        assert not generator.sample(2, seed=0).requires_grad
        assert generator.training
        assert torch.equal(before, torch.random.get_rng_state())

    def test_classes_come_in_turn(self) -> None:
        generator = Generator(small(4, num_classes=2))
        turn = generator.sample(4, seed=0)
        told = generator.sample(4, seed=0, labels=torch.tensor([0, 1, 0, 1]))
        torch.testing.assert_close(turn, told, **named("exact"))

    def test_truncation_changes_directions(self) -> None:
        generator = Generator(small(4))
        assert not torch.equal(generator.sample(4, seed=0), generator.sample(4, seed=0, truncation=0.7))

    @pytest.mark.parametrize("truncation", [None, 0.7])
    def test_latents_are_those_of_the_samples(self, truncation: float | None) -> None:
        generator = Generator(small(4)).double().eval()
        latents = generator.sample_latents(5, seed=3, truncation=truncation)
        assert latents.dtype == torch.float64
        draw = normal_latents if truncation is None else partial(truncated_normal_latents, truncation=truncation)
        assert torch.equal(latents, draw(5, generator.config.latent_dim, seed=3, dtype=torch.float64))
        with torch.no_grad():
            images = generator(latents).clamp(-1, 1)
        assert torch.equal(generator.sample(5, seed=3, truncation=truncation), images)

    def test_count_is_checked(self) -> None:
        with pytest.raises(ValueError, match="`count`"):
            Generator(small(4)).sample(0, seed=0)
        with pytest.raises(ValueError, match="`count`"):
            Generator(small(4)).sample_latents(0, seed=0)


class TestCalls:
    def test_wrong_calls_are_named(self) -> None:
        generator, discriminator = Generator(small(8)), Discriminator(small(8))
        with pytest.raises(ValueError, match="`resolution`"):
            generator(torch.randn(2, 6), resolution=16)
        with pytest.raises(ValueError, match="`latents`"):
            generator(torch.randn(2, 7))
        with pytest.raises(ValueError, match="`images`"):
            discriminator(torch.randn(2, 3, 16, 16))
        with pytest.raises(ValueError, match="`images`"):
            discriminator(torch.randn(2, 1, 8, 8))
        for alpha in (-0.1, 1.1, math.nan):
            with pytest.raises(ValueError, match="`alpha`"):
                generator(torch.randn(2, 6), alpha=alpha)

    def test_networks_can_be_copied(self) -> None:
        generator = Generator(small(8))
        latents = torch.randn(2, 6)
        torch.testing.assert_close(copy.deepcopy(generator)(latents), generator(latents), **named("exact"))


def test_critic_learns_through_its_own_penalty() -> None:
    """The gradient of the penalty reaches every weight that the score depends on; biases before a ReLU may get zero."""
    discriminator = Discriminator(small(8)).double()
    images = torch.randn(2, 4, 3, 8, 8, dtype=torch.float64)
    gradient_penalty(lambda x: discriminator(x, alpha=0.5), images[0], images[1]).backward()
    missing = [name for name, p in discriminator.named_parameters() if p.grad is None and name.endswith("weight")]
    assert missing == []


def kept_bytes(config: ProGANConfig, recompute_from: int | None) -> tuple[int, list[torch.Tensor], int]:
    """Of features for the backward pass of a critic's score and penalty; all gradients; calls of the largest block."""
    torch.manual_seed(0)
    critic = Discriminator(config)
    critic.recompute_from = recompute_from
    calls: list[int] = []
    critic.blocks[str(config.resolution)].conv1.register_forward_hook(lambda *given: calls.append(1))
    images = torch.rand(4, 3, config.resolution, config.resolution)
    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = critic(images, alpha=0.5)
    loss = scores.mean() + 10 * gradient_penalty(partial(critic, alpha=0.5), images, images.flip(0))
    loss.backward()
    return (
        sum(storages.values()),
        [weight.grad for weight in critic.parameters() if weight.grad is not None],
        len(calls),
    )


def test_features_computed_again_are_not_kept_and_give_the_same_gradients() -> None:
    config = small(resolution=32, max_channels=8)
    kept, gradients, calls = kept_bytes(config, None)
    anew, same, more_calls = kept_bytes(config, 16)
    assert all(map(torch.equal, gradients, same))
    assert anew < kept / 2
    assert (calls, more_calls) == (2, 3)  # once more for the scores, not for the penalty


def test_a_generator_that_computes_again_makes_the_same_images_and_gradients() -> None:
    config = small(resolution=16)
    torch.manual_seed(0)
    generator = Generator(config)
    latents, results = torch.randn(4, config.latent_dim), []
    for first in (None, 8):
        generator.recompute_from = first
        images = generator(latents, alpha=0.5)
        results.append([images, *torch.autograd.grad(images.square().sum(), list(generator.parameters())[:4])])
    assert all(map(torch.equal, *results))
    with torch.no_grad():
        assert torch.equal(generator(latents, alpha=0.5), results[0][0])
