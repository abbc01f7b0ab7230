"""The three terms of a style transfer: numbers written out, and what their weights and the relative form do."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ganblocks.functional.gram import gram_matrix
from ganblocks.losses.perceptual import content_loss, style_loss, total_variation
from ganblocks.training.style_terms import StyleWeights, style_terms
from tolerances import for_dtype

TIGHT = for_dtype(torch.float32)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


IMAGES = drawn(2, 3, 6, 5)
MAPS = {"a": drawn(2, 4, 3, 3, seed=1), "b": drawn(2, 5, 2, 2, seed=2), "unused": drawn(2, 1, 1, 1)}
CONTENTS = {"b": drawn(2, 5, 2, 2, seed=3)}
LOOKS = {name: gram_matrix(drawn(1, width, 4, 4, seed=4)) for name, width in (("a", 4), ("b", 5))}


def terms(**weights: Any) -> dict[str, Tensor]:
    return style_terms(IMAGES, MAPS, CONTENTS, LOOKS, StyleWeights(**weights))


def test_plain_terms_are_the_formulas() -> None:
    found = terms(relative=False, content_weight=2.0, style_weight=3.0, variation_weight=5.0)
    content = content_loss({"b": MAPS["b"]}, CONTENTS)
    style = style_loss({name: MAPS[name] for name in LOOKS}, LOOKS)
    variation = total_variation(IMAGES)
    expected = {"content": content, "style": style, "variation": variation}
    expected["loss"] = 2 * content + 3 * style + 5 * variation
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **TIGHT)


def test_relative_terms_do_not_change_with_the_unit_of_the_features() -> None:
    found = terms()
    louder = {name: 7 * part for name, part in MAPS.items()}
    again = style_terms(
        IMAGES,
        louder,
        {name: 7 * part for name, part in CONTENTS.items()},
        {name: 49 * part for name, part in LOOKS.items()},
        StyleWeights(),
    )
    for name, value in found.items():
        torch.testing.assert_close(again[name], value, **TIGHT)
    assert float(found["variation"]) == pytest.approx(float(total_variation(IMAGES)) / (3 * 6 * 5))


def test_nothing_is_divided_by_a_target_of_zeros() -> None:
    found = style_terms(IMAGES, MAPS, {"b": torch.zeros(2, 5, 2, 2)}, {"a": torch.zeros(1, 4, 4)}, StyleWeights())
    assert all(torch.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"content_weight": -1.0}, "content_weight"),
        ({"style_weight": float("nan")}, "style_weight"),
        ({"variation_weight": float("inf")}, "variation_weight"),
        ({"variation": "squared"}, "variation"),
    ],
)
def test_weights_out_of_range_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        StyleWeights(**options)
