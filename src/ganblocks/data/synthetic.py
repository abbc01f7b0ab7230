"""Images that are drawn, not read: coloured shapes and cartoon faces whose every factor is known.

They need no file and no network, exist in any number and at any resolution, and tell the truth about themselves, which
makes them good for first runs, for tests, and for asking what a latent space has learned.

How they are drawn, and why the picture of an index is the same at all resolutions, stands in
:mod:`ganblocks.data.drawing`.
"""

import abc
import hashlib
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ganblocks._checks import require
from ganblocks.data.drawing import (
    Canvas,
    Colour,
    Plane,
    arc,
    blend,
    box,
    disc,
    egg,
    ellipse,
    grey,
    mix,
    pastel,
    pick,
    rotate,
    stroke,
)

__all__ = ["FaceFactors", "Faces", "ShapeFactors", "Shapes"]

_DRAWING_VERSION = 1  # part of every fingerprint; grows when a drawing changes
_NATIVE_SIDE = 1024  # what `size` reports: a drawing has no size of its own, and shall never seem too small
_FINEST_SIDE = 64  # below this side, pictures are drawn larger and averaged, so that thin lines keep their weight
_BALD = 0.1  # shorter hair is none
_BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)

_SKIN_TONES = ((255, 226, 204), (243, 199, 160), (214, 160, 116), (158, 106, 72), (98, 66, 48))
_HAIR_COLOURS = ((40, 32, 34), (92, 60, 40), (146, 78, 42), (226, 186, 108), (196, 84, 46), (190, 192, 200))
_IRIS_COLOURS = ((84, 56, 36), (62, 116, 72), (66, 120, 176), (104, 112, 124))
_CLOTH_COLOURS = ((214, 84, 76), (62, 124, 178), (84, 150, 98), (240, 178, 70), (128, 92, 160), (70, 74, 92))
_SHAPE_COLOURS = ((220, 60, 56), (240, 160, 40), (250, 222, 80), (80, 170, 90), (60, 120, 200), (140, 90, 180))


@dataclass(frozen=True)
class ShapeFactors:
    """What there is to know about a picture of :class:`Shapes`.

    Attributes:
        kind: "disc", "ring", "square" or "triangle".
        x: centre, to the right, in [-0.4, 0.4].
        y: centre, downwards, in [-0.4, 0.4].
        radius: of the circle around the shape, in [0.25, 0.5].
        rotation: clockwise, in radians, in [0, 2 pi).
        colour: RGB in 0..255.
        background: RGB in 0..255.
    """

    kind: str
    x: float
    y: float
    radius: float
    rotation: float
    colour: Colour
    background: Colour


@dataclass(frozen=True)
class FaceFactors:
    """What there is to know about a picture of :class:`Faces`; a number without a range lies in [0, 1].

    Attributes:
        skin_tone: from light to dark.
        head_width: half of it, in [0.42, 0.52].
        head_height: half of it, in [0.52, 0.6].
        chin: how much narrower the head is below than above, in [0, 0.25].
        tilt: of the head, clockwise, in radians, in [-0.15, 0.15].
        hair_length: bald below 0.1, to the ears near 0.3, over the shoulders at 1.
        hair_curl: from smooth to curly.
        hair_parting: where the fringe parts, in [-0.3, 0.3].
        hair_colour: RGB in 0..255.
        eye_distance: half of it, in [0.18, 0.23].
        eye_size: half the width of an eye, in [0.075, 0.11].
        iris_colour: RGB in 0..255.
        gaze_x: where the eyes look, to the right, in [-1, 1].
        gaze_y: where the eyes look, downwards, in [-1, 1].
        brow_angle: frowning to worried, in [-1, 1].
        mouth_curvature: from sad to smiling, in [-1, 1].
        mouth_width: half of it, in [0.13, 0.22].
        mouth_open: from closed to laughing.
        glasses: whether there are any.
        cloth_colour: RGB in 0..255.
        background: RGB in 0..255.
    """

    skin_tone: float
    head_width: float
    head_height: float
    chin: float
    tilt: float
    hair_length: float
    hair_curl: float
    hair_parting: float
    hair_colour: Colour
    eye_distance: float
    eye_size: float
    iris_colour: Colour
    gaze_x: float
    gaze_y: float
    brow_angle: float
    mouth_curvature: float
    mouth_width: float
    mouth_open: float
    glasses: bool
    cloth_colour: Colour
    background: Colour


class _Drawn(abc.ABC):
    """What drawn images have in common: they read like an :class:`~ganblocks.data.image_folder.ImageFolder`."""

    classes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, count: int, *, seed: int = 0, image_channels: int = 3) -> None:
        require(count >= 1, "count", count, "at least 1")
        require(seed >= 0, "seed", seed, "at least 0")
        require(image_channels in (1, 3), "image_channels", image_channels, "1 (grey) or 3 (RGB)")
        self.count = count
        self.seed = seed
        self.image_channels = image_channels
        kind = type(self).__name__.lower()
        self.names: tuple[str, ...] = tuple(f"{kind}_{index:06d}" for index in range(count))
        self.labels: npt.NDArray[np.int64] | None = None
        recipe = f"{kind} {_DRAWING_VERSION} {count} {seed} {image_channels}"
        self.fingerprint: str = hashlib.sha256(recipe.encode()).hexdigest()

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.count}, seed={self.seed}, image_channels={self.image_channels})"

    def size(self, index: int) -> tuple[int, int]:
        """Return (1024, 1024): a drawing is sharp at any resolution, and this is only a large number.

        Raises:
            IndexError: ``index`` is out of range.
        """
        self._position(index)
        return _NATIVE_SIDE, _NATIVE_SIDE

    def read(self, index: int, resolution: int) -> npt.NDArray[np.uint8]:
        """Draw one image, a pure function of the seed, the index and the resolution.

        Returns:
            uint8 [C, resolution, resolution].

        Raises:
            IndexError: ``index`` is out of range.
            ValueError: ``resolution`` is below 1.
        """
        require(resolution >= 1, "resolution", resolution, "at least 1")
        position = self._position(index)
        oversampling = -(-_FINEST_SIDE // resolution)
        canvas = Canvas(resolution * oversampling)
        self._draw(canvas, position)
        image = canvas.pixels.reshape(3, resolution, oversampling, resolution, oversampling).mean(axis=(2, 4))
        if self.image_channels == 1:
            image = np.tensordot(_BT601, image, axes=1)[None]
        return np.clip(image + 0.5, 0, 255).astype(np.uint8)

    def _position(self, index: int) -> int:
        return range(self.count)[index]

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self._position(index)])

    @abc.abstractmethod
    def _draw(self, canvas: Canvas, index: int) -> None:
        """Draw image ``index``."""


class Shapes(_Drawn):
    """One coloured disc, ring, square or triangle on a plain ground; the label is the shape.

    Shapes take turns, so the classes are balanced: the label of image i is i modulo 4.

    Args:
        count: how many images there are, at least 1.
        seed: another seed gives other images.
        image_channels: 3 for RGB, 1 for grey (ITU-R BT.601 weights).

    Attributes:
        names: as for :class:`~ganblocks.data.image_folder.ImageFolder`, and so are ``classes``, ``labels`` and
            ``fingerprint``.

    Raises:
        ValueError: an argument is out of its range.
    """

    classes: ClassVar[tuple[str, ...]] = ("disc", "ring", "square", "triangle")

    def __init__(self, count: int, *, seed: int = 0, image_channels: int = 3) -> None:
        super().__init__(count, seed=seed, image_channels=image_channels)
        labels = np.arange(count, dtype=np.int64) % len(self.classes)
        labels.flags.writeable = False
        self.labels: npt.NDArray[np.int64] | None = labels

    def factors(self, index: int) -> ShapeFactors:
        """Return what is drawn.

        Raises:
            IndexError: ``index`` is out of range.
        """
        random = self._generator(index)
        return ShapeFactors(
            kind=self.classes[self._position(index) % len(self.classes)],
            x=random.uniform(-0.4, 0.4),
            y=random.uniform(-0.4, 0.4),
            radius=random.uniform(0.25, 0.5),
            rotation=random.uniform(0, 2 * math.pi),
            colour=pick(random, _SHAPE_COLOURS),
            background=grey(random.uniform(20, 90)),
        )

    def _draw(self, canvas: Canvas, index: int) -> None:
        it = self.factors(index)
        canvas.fill(it.background)
        x, y = rotate(canvas.x - it.x, canvas.y - it.y, it.rotation)
        if it.kind == "disc":
            distance = disc(x, y, it.radius)
        elif it.kind == "ring":
            distance = stroke(disc(x, y, 0.78 * it.radius), 0.22 * it.radius)
        elif it.kind == "square":
            distance = box(x, y, it.radius / math.sqrt(2), it.radius / math.sqrt(2))
        else:  # three half-planes whose edges are half a radius away
            _, left = rotate(x, y, 2 * math.pi / 3)
            _, right = rotate(x, y, 4 * math.pi / 3)
            distance = np.maximum(np.maximum(y, left), right) - np.float32(it.radius / 2)
        canvas.paint(distance, it.colour)


class Faces(_Drawn):
    """Cartoon faces. There are no labels; everything is in :meth:`factors`.

    Args:
        count: how many images there are, at least 1.
        seed: another seed gives other faces.
        image_channels: 3 for RGB, 1 for grey (ITU-R BT.601 weights).

    Attributes:
        names: as for :class:`~ganblocks.data.image_folder.ImageFolder`, and so is ``fingerprint``; ``labels`` is None
            and ``classes`` is empty.

    Raises:
        ValueError: an argument is out of its range.
    """

    def factors(self, index: int) -> FaceFactors:
        """Return what is drawn.

        Raises:
            IndexError: ``index`` is out of range.
        """
        random = self._generator(index)
        return FaceFactors(
            skin_tone=random.uniform(),
            head_width=random.uniform(0.42, 0.52),
            head_height=random.uniform(0.52, 0.6),
            chin=random.uniform(0, 0.25),
            tilt=random.uniform(-0.15, 0.15),
            hair_length=random.uniform(),
            hair_curl=random.uniform(),
            hair_parting=random.uniform(-0.3, 0.3),
            hair_colour=pick(random, _HAIR_COLOURS),
            eye_distance=random.uniform(0.18, 0.23),
            eye_size=random.uniform(0.075, 0.11),
            iris_colour=pick(random, _IRIS_COLOURS),
            gaze_x=random.uniform(-1, 1),
            gaze_y=random.uniform(-1, 1),
            brow_angle=random.uniform(-1, 1),
            mouth_curvature=float(2 * random.beta(2.5, 1.2) - 1),  # most are in a good mood
            mouth_width=random.uniform(0.13, 0.22),
            mouth_open=random.uniform(),
            glasses=bool(random.uniform() < 0.2),
            cloth_colour=pick(random, _CLOTH_COLOURS),
            background=pastel(random.uniform(0, 2 * math.pi)),
        )

    def _draw(self, canvas: Canvas, index: int) -> None:
        it = self.factors(index)
        skin = blend(_SKIN_TONES, it.skin_tone)
        shade = mix(skin, (96, 32, 28), 0.25)
        x, y = rotate(canvas.x, canvas.y - np.float32(0.05), it.tilt)
        curls = np.float32(0.045 * it.hair_curl) * np.cos(14 * np.arctan2(x, -y))  # how far the hair stands out

        canvas.fill(it.background)
        _draw_hair_behind(canvas, x, y, curls, it)
        _draw_shoulders(canvas.part(-0.8, 0.3, 0.8, 1), it, shade)
        canvas.paint(ellipse(abs(x) - it.head_width, y - 0.03, 0.075, 0.11), mix(skin, shade, 0.5))  # both ears
        canvas.paint(egg(x, y, it.head_width, it.head_height, it.chin), skin)
        features = canvas.part(-0.56, -0.42, 0.56, 0.66)
        _draw_features(features, *rotate(features.x, features.y - np.float32(0.05), it.tilt), it, skin, shade)
        _draw_fringe(canvas, x, y, curls, it)


def _draw_hair_behind(canvas: Canvas, x: Plane, y: Plane, curls: Plane, it: FaceFactors) -> None:
    """A cap around the head that hangs down as far as the hair is long."""
    if it.hair_length < _BALD:
        return
    hanging = disc(x, np.minimum(y + 0.12, 0), 1.16 * it.head_width) - np.clip(y, 0, 1) * (0.08 * it.hair_length)
    end = y - (1.05 * it.hair_length - 0.15)
    canvas.paint(np.maximum(hanging - curls, end), mix(it.hair_colour, (20, 14, 20), 0.22))


def _draw_shoulders(canvas: Canvas, it: FaceFactors, shade: Colour) -> None:
    canvas.paint(box(canvas.x, canvas.y - 0.7, 0.17, 0.3), shade)  # the neck
    canvas.paint(ellipse(canvas.x, canvas.y - 1.18, 0.72, 0.42), it.cloth_colour)
    canvas.paint(ellipse(canvas.x, canvas.y - 0.78, 0.19, 0.09), shade)  # the neckline


def _draw_features(canvas: Canvas, x: Plane, y: Plane, it: FaceFactors, skin: Colour, shade: Colour) -> None:
    outline = mix(it.hair_colour, (30, 20, 24), 0.45)
    blush, lips = mix(skin, (232, 72, 80), 0.35), mix(shade, (150, 30, 44), 0.6)
    side = abs(x)  # what is symmetric is drawn once, for both sides
    canvas.paint(ellipse(side - 0.27, y - 0.2, 0.095, 0.065), blush, opacity=0.7)
    _draw_eyes(canvas, x, y, it, outline)
    canvas.paint(stroke(arc(side - it.eye_distance, _brow(x, y, it), 0.095, -0.03), 0.021), outline)
    if it.glasses:
        rim = stroke(disc(side - it.eye_distance, y + 0.03, 0.15), 0.014)
        canvas.paint(np.minimum(rim, box(x, y + 0.04, it.eye_distance - 0.15, 0.012)), (48, 44, 56))
    canvas.paint(stroke(arc(x, y - 0.12, 0.06, 0.05), 0.017), mix(skin, shade, 0.9))  # the nose
    _draw_mouth(canvas, x, y, it, lips)


def _brow(x: Plane, y: Plane, it: FaceFactors) -> Plane:
    """Height below the line of the brows, which rise towards the nose when worried and fall when frowning."""
    return y + 0.2 - (abs(x) - it.eye_distance) * (0.28 * it.brow_angle)


def _draw_eyes(canvas: Canvas, x: Plane, y: Plane, it: FaceFactors, outline: Colour) -> None:
    """Two eyes that look the same way."""
    size = it.eye_size
    side, height = abs(x) - it.eye_distance, y + 0.04
    ball = ellipse(side, height, size, 1.12 * size)
    canvas.paint(ball, (252, 252, 250))
    look_x = np.where(x < 0, -side, side) - np.float32(0.3 * size * it.gaze_x)
    look_y = height - np.float32(0.25 * size * it.gaze_y)
    canvas.paint(np.maximum(disc(look_x, look_y, 0.64 * size), ball), it.iris_colour)
    canvas.paint(np.maximum(disc(look_x, look_y, 0.36 * size), ball), (22, 18, 24))
    canvas.paint(disc(look_x + 0.24 * size, look_y + 0.26 * size, 0.2 * size), (255, 255, 255))
    canvas.paint(np.maximum(stroke(ball, 0.016), height + 0.3 * size), outline)  # the lid


def _draw_mouth(canvas: Canvas, x: Plane, y: Plane, it: FaceFactors, lips: Colour) -> None:
    """A curved line; if open, with a second, deeper one below and teeth between them."""
    width = it.mouth_width
    bend, depth = 0.55 * width * it.mouth_curvature, 1.1 * width * max(0.0, it.mouth_open - 0.4)
    height = y - np.float32(0.31 + 0.4 * bend)
    if depth > 0:
        across = np.clip(x / np.float32(width), -1, 1) ** 2
        below_upper = height + bend * across
        below_lower = below_upper - depth * (1 - across)
        inside = np.maximum(np.maximum(-below_upper, below_lower), abs(x) - width)
        canvas.paint(inside, (110, 28, 40))
        canvas.paint(np.maximum(inside, below_upper - 0.35 * depth), (250, 248, 244))
        canvas.paint(stroke(arc(x, height - depth, width, bend + depth), 0.016), lips)
    canvas.paint(stroke(arc(x, height, width, bend), 0.02), lips)


def _draw_fringe(canvas: Canvas, x: Plane, y: Plane, curls: Plane, it: FaceFactors) -> None:
    """The hair in front: what lies inside a slightly larger head and above the hairline."""
    if it.hair_length < _BALD:
        return
    cap = egg(x, y + 0.03, 1.09 * it.head_width, 1.1 * it.head_height, it.chin) - curls
    from_parting = x - np.float32(it.hair_parting)
    below_hairline = y + 0.34 - 0.9 * from_parting**2 - curls
    hairline = below_hairline / np.sqrt(1 + (1.8 * from_parting) ** 2)  # to first order a distance
    canvas.paint(np.maximum(np.maximum(cap, hairline), y - 0.12), it.hair_colour)
