"""Numbers of the parts of a batch are those of the whole batch, in its order."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganblocks import functional, losses
from ganblocks.functional import PartGenerator, draw
from ganblocks.functional.draws import PreparedGenerator

float64 = torch.float64


@given(
    parts=st.integers(1, 5), count=st.integers(0, 9), rest=st.sampled_from([(), (3,), (2, 5)]), seed=st.integers(0, 99)
)
def test_parts_are_the_rows_of_the_whole(parts: int, count: int, rest: tuple[int, ...], seed: int) -> None:
    kinds = [torch.rand, torch.randn, functools.partial(torch.randint, 7)]
    whole = torch.Generator().manual_seed(seed)
    dealt = [PartGenerator(seed, part, parts) for part in range(parts)]
    for kind in kinds:  # one after another from the same generators
        expected = draw(kind, (count * parts, *rest), whole)
        found = torch.cat([draw(kind, (count, *rest), generator) for generator in dealt])
        assert torch.equal(found, expected)


def test_a_plain_generator_and_none_draw_as_ever() -> None:
    expected = torch.rand((2, 3), generator=torch.Generator().manual_seed(5), dtype=float64)
    assert torch.equal(draw(torch.rand, (2, 3), torch.Generator().manual_seed(5), dtype=float64), expected)
    torch.manual_seed(5)
    expected = torch.randn(2, 3)
    torch.manual_seed(5)
    assert torch.equal(draw(torch.randn, (2, 3), None), expected)


def test_who_takes_it_for_a_plain_generator_gets_other_numbers_in_each_part_and_the_same_again() -> None:
    drawn = [torch.rand(8, generator=PartGenerator(3, part, 4)) for part in range(4)]
    for index, numbers in enumerate(drawn):
        assert torch.equal(numbers, torch.rand(8, generator=PartGenerator(3, index, 4)))
        assert not any(torch.equal(numbers, others) for others in drawn[:index])
        assert not torch.equal(numbers, torch.rand(8, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("part", [-1, 2])
def test_a_part_out_of_range_is_refused(part: int) -> None:
    with pytest.raises(ValueError, match=f"`part` is {part}"):
        PartGenerator(0, part, 2)


def images(count: int) -> Tensor:
    return torch.linspace(-1, 1, count * 3 * 8 * 8, dtype=float64).reshape(count, 3, 8, 8)


def slope(x: Tensor) -> Tensor:
    return (x.sin() * x).sum((1, 2, 3))


# What is drawn for one image each, with a generator: of the whole batch, and of its parts.
DRAWS = {
    "normal_latents": lambda x, g: functional.normal_latents(len(x), 5, generator=g),
    "truncated_normal_latents": lambda x, g: functional.truncated_normal_latents(len(x), 5, generator=g),
    "reparameterize": lambda x, g: functional.reparameterize(x[:, 0, 0], x[:, 1, 0], generator=g),
    "gaussian_noise": lambda x, g: functional.gaussian_noise(x, generator=g),
    "masking_noise": lambda x, g: functional.masking_noise(x, 0.3, generator=g),
    "salt_and_pepper": lambda x, g: functional.salt_and_pepper(x, 0.3, generator=g),
    "diff_augment": lambda x, g: functional.diff_augment(x, ["color", "translation", "cutout"], generator=g),
    "gradient_penalty": lambda x, g: losses.gradient_penalty(slope, x, -x, reduction="none", generator=g),
    "normal mixing": lambda x, g: losses.gradient_penalty(slope, x, -x, mixing="normal", reduction="none", generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_everything_drawn_for_an_image_belongs_to_it(name: str) -> None:
    x = images(6)
    whole = DRAWS[name](x, torch.Generator().manual_seed(1))
    parts = [DRAWS[name](x[2 * part : 2 * part + 2], PartGenerator(1, part, 3)) for part in range(3)]
    assert torch.equal(torch.cat(parts), whole)


def test_prepared_numbers_are_taken_where_they_lie() -> None:
    lying = torch.arange(3.0)

    class Ready(PreparedGenerator):
        def prepared(self, function: object, shape: tuple[int, ...], **options: object) -> torch.Tensor:
            assert (function, shape, options) == (torch.rand, (3,), {"dtype": torch.float32})
            return lying

    assert draw(torch.rand, (3,), Ready(), dtype=torch.float32) is lying
    with pytest.raises(NotImplementedError):
        draw(torch.rand, (3,), PreparedGenerator())
