"""Figures, colours and coverage, at points computed by hand."""

import math

import numpy as np

from ganblocks.data.drawing import Canvas, arc, blend, box, disc, egg, ellipse, mix, pastel, rotate, stroke
from tolerances import named


def test_distances_are_right_at_points_computed_by_hand():
    def at(figure, x, y, *sizes):
        return float(figure(np.float32([[x]]), np.float32([[y]]), *sizes)[0, 0])

    assert at(disc, 3.0, 4.0, 2.0) == 3.0
    assert at(box, 3.0, 0.0, 1.0, 1.0) == 2.0
    assert at(box, 0.0, 0.5, 2.0, 1.0) == -0.5
    assert at(arc, 2.0, 0.0, 1.0, 0.0) == 1.0  # beyond the end of a straight line
    assert at(arc, 1.0, -0.5, 1.0, 0.5) == 0.0  # the end lies `bend` above the middle
    assert float(stroke(np.float32([[-3.0]]), 1.0)[0, 0]) == 2.0
    for figure, sizes in ((ellipse, (0.5, 0.25)), (egg, (0.5, 0.25, 0.0))):
        np.testing.assert_allclose(at(figure, 0.5, 0.0, *sizes), 0.0, **named("drawn_area"))
        np.testing.assert_allclose(at(figure, 0.0, 0.25, *sizes), 0.0, **named("drawn_area"))
        np.testing.assert_allclose(at(figure, 0.51, 0.0, *sizes), 0.01, **named("drawn_area"))
        assert at(figure, 0.0, 0.0, *sizes) <= 0
    assert at(egg, 0.45, 0.24, 0.5, 0.25, 0.25) > at(egg, 0.45, -0.24, 0.5, 0.25, 0.25)  # narrower below


def test_rotation_is_clockwise():
    x, y = rotate(np.float32([[0.0]]), np.float32([[1.0]]), math.pi / 2)  # straight down
    np.testing.assert_allclose([x[0, 0], y[0, 0]], [1.0, 0.0], **named("drawn_area"))


def test_part_of_a_canvas_shares_its_pixels():
    canvas = Canvas(8)
    part = canvas.part(-0.5, 0.0, 0.5, 1.0)
    part.fill((1, 2, 3))
    assert part.x.shape == part.y.shape == part.pixels.shape[1:] == (4, 4)
    assert canvas.pixels[0].sum() == 16
    assert canvas.pixels[0, 4:, 2:6].sum() == 16


def test_paint_covers_half_a_pixel_by_half():
    canvas = Canvas(4)
    canvas.paint(canvas.x - np.float32(0.25), (200, 0, 0))  # the edge goes through the middle of the third column
    assert canvas.pixels[0, 0].tolist() == [200, 200, 100, 0]
    canvas.fill((0, 0, 0))
    canvas.paint(canvas.x - 9, (200, 0, 0), opacity=0.25)
    assert set(canvas.pixels[0].ravel().tolist()) == {50}


def test_colours_mix_and_blend():
    assert mix((0, 0, 0), (100, 200, 40), 0.25) == (25, 50, 10)
    palette = [(0, 0, 0), (100, 0, 0), (100, 100, 0)]
    assert [blend(palette, position) for position in (0, 0.25, 0.5, 0.75, 1)] == [
        (0, 0, 0),
        (50, 0, 0),
        (100, 0, 0),
        (100, 50, 0),
        (100, 100, 0),
    ]
    assert int(np.argmax(pastel(0.0))) == 0
    assert int(np.argmax(pastel(2 * math.pi / 3))) == 1
