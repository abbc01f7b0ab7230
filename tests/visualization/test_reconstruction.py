"""Rows of reconstructions, read back from the rendered pixels."""

import numpy as np
import pytest
import torch
from drawn import assert_readable, rendered, written

from ganblocks.visualization.reconstruction import reconstruction_rows
from tolerances import named


def batches(count=3, channels=1, side=28):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(count, channels, side, side, generator=generator) for _ in range(3)]


def pictures(figure):
    """{(row, column): pixels} of the images shown, from the rendered figure."""
    shown = rendered(figure)
    extents = [tuple(round(edge) for edge in image.get_extent()) for image in figure.axes[0].images]
    tops = sorted({extent[3] for extent in extents})
    lefts = sorted({extent[0] for extent in extents})
    offset = shown.shape[0] - round(figure.axes[0].get_ylim()[0])
    return {
        (tops.index(top), lefts.index(left)): shown[top + offset : bottom + offset, left:right]
        for left, right, bottom, top in extents
    }


def levels(image, factor):
    grey = torch.round(255 * image.double()).byte().numpy()
    return grey.transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("title", [None, "of some run"])
def test_originals_stand_above_what_was_seen_above_what_was_made(channels, title):
    originals, noisy, made = batches(channels=channels)
    figure = reconstruction_rows(originals, made, noisy=noisy, title=title)
    shown = pictures(figure)
    assert shown.keys() == {(row, column) for row in range(3) for column in range(3)}
    for row, batch in enumerate((originals, noisy, made)):
        for column in range(3):
            assert np.array_equal(shown[row, column], np.broadcast_to(levels(batch[column], 4), (112, 112, 3)))
    assert written(figure) == [*([title] if title else []), "original", "noisy", "reconstructed"]
    assert_readable(figure)


def test_without_noisy_images_there_are_two_rows_of_the_first_ones():
    originals, _, made = batches(count=12, side=4)
    figure = reconstruction_rows(originals, made)
    shown = pictures(figure)
    assert shown.keys() == {(row, column) for row in range(2) for column in range(10)}
    assert np.array_equal(shown[1, 9][..., :1], levels(made[9], 28))
    assert len(pictures(reconstruction_rows(originals, made, count=4))) == 8


def test_the_error_below_an_image_is_the_mean_square():
    originals, noisy, made = batches(count=2)
    figure = reconstruction_rows(originals, made, noisy=noisy, errors=True)
    told = [text for text in written(figure) if text[0].isdigit()]
    exact = [float(((batch[k] - originals[k]) ** 2).mean()) for batch in (noisy, made) for k in range(2)]
    np.testing.assert_allclose([float(text) for text in told], exact, **named("four decimals"))
    assert_readable(figure)
    bright = reconstruction_rows(
        torch.full((1, 1, 4, 4), 51, dtype=torch.uint8), 0.5 + torch.zeros(1, 1, 4, 4), errors=True
    )
    assert "0.0900" in written(bright)  # bytes beside floats: 0.2 and 0.5


def test_black_and_white_are_where_value_range_says():
    originals, _, made = batches()
    plain = reconstruction_rows(originals, made, errors=True)
    moved = reconstruction_rows(2 * originals - 1, 2 * made - 1, value_range=(-1, 1), errors=True)
    assert np.array_equal(rendered(plain), rendered(moved))
    with pytest.raises(ValueError, match="`originals` is 'of mean"):
        reconstruction_rows(2 * originals - 2, made)


def test_long_names_keep_their_room():
    originals, noisy, made = batches()
    names = ["a name that is much too long to stand beside a row", "$b_1$", "c"]
    figure = reconstruction_rows(originals, made, noisy=noisy, row_names=names)
    assert_readable(figure)
    assert written(figure)[1:] == ["$b_1$", "c"]


def test_the_figure_is_written_where_the_path_says(tmp_path):
    originals, _, made = batches()
    reconstruction_rows(originals, made, path=tmp_path / "rows.png")
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"count": 0}, "count"),
        ({"count": 41}, "count"),
        ({"noisy": torch.zeros(3, 1, 4, 4)}, "noisy"),
        ({"reconstructed": torch.zeros(2, 1, 28, 28)}, "reconstructed"),
        ({"reconstructed": torch.full((3, 1, 28, 28), torch.nan)}, "reconstructed"),
        ({"row_names": ["one"]}, "row_names"),
        ({"value_range": (1, 0)}, "value_range"),
        ({"path": "rows.gif"}, "path"),
    ],
)
def test_mistakes_are_named(change, match):
    originals, _, made = batches()
    with pytest.raises(ValueError, match=match):
        reconstruction_rows(**{"originals": originals, "reconstructed": made, **change})
