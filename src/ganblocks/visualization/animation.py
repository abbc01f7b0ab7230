"""A run as a moving picture: one frame per sheet of samples, GIF or WebP, written by Pillow."""

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ganblocks._checks import require
from ganblocks._files import written_atomically

__all__ = ["save_animation"]

_FORMATS = {".gif": "GIF", ".webp": "WEBP"}
_SHORTEST_SECONDS = 0.02  # viewers replace anything shorter with a tenth of a second
_BACKGROUND = 255  # white, as the padding of a grid

Frame = Image.Image | str | os.PathLike[str]


def save_animation(
    frames: Sequence[Frame],
    path: str | os.PathLike[str],
    *,
    frame_seconds: float = 0.15,
    last_frame_seconds: float = 1.5,
    size: tuple[int, int] | None = None,
    max_frames: int = 120,
) -> None:
    """Write frames as an animation that repeats for ever, replacing an older file in a single step.

    A frame smaller than the canvas is enlarged by the largest whole factor that fits, each pixel becoming a square,
    and centred on white; a larger one is shrunk to fit, keeping its proportions. Samples of a growing network
    therefore stay sharp at every resolution. Transparency is laid on white.

    Args:
        frames: Pillow images or paths of image files, in order, of any sizes.
        path: the suffix chooses the format: ".gif" (256 colours, a palette of its own for each frame; lossless for
            grey) or ".webp" (full colour, quality 90). Missing folders are made.
        frame_seconds: how long a frame stays, in seconds, at least 0.02. GIF counts in hundredths.
        last_frame_seconds: how long the last one stays, in seconds.
        size: (width, height) of the canvas in pixels. None takes the largest width and the largest height.
        max_frames: of more frames, this many are taken at even distances, always with the first and the last.

    Raises:
        ValueError: no frame, an unknown suffix, or an option out of range.
        OSError: a frame could not be read or the file not be written; an older one is then untouched.
    """
    target = Path(path)
    file_format = _FORMATS.get(target.suffix.lower())
    if file_format is None:
        raise ValueError(f'`path` is {str(path)!r}, but must end in ".gif" or ".webp"')
    require(len(frames) > 0, "frames", frames, "at least one frame")
    require(max_frames >= 1, "max_frames", max_frames, "at least 1")
    for name, seconds in (("frame_seconds", frame_seconds), ("last_frame_seconds", last_frame_seconds)):
        require(_SHORTEST_SECONDS <= seconds <= 600, name, seconds, f"{_SHORTEST_SECONDS} to 600 seconds")

    images = [_read(frames[index]) for index in _even_indices(len(frames), max_frames)]
    if any(image.mode != "L" for image in images):
        images = [image.convert("RGB") for image in images]
    if size is None:
        size = max(image.width for image in images), max(image.height for image in images)
    require(len(size) == 2 and min(size) >= 1, "size", size, "(width, height) of at least one pixel each")
    images = [_fit(image, size) for image in images]
    if file_format == "GIF":
        images = [image if image.mode == "L" else image.quantize(256) for image in images]

    milliseconds = [round(1000 * frame_seconds)] * (len(images) - 1) + [round(1000 * last_frame_seconds)]
    options: dict[str, int] = {} if file_format == "GIF" else {"quality": 90}
    with written_atomically(target) as file:
        images[0].save(
            file,
            format=file_format,
            save_all=True,
            append_images=images[1:],
            duration=milliseconds,
            loop=0,
            **options,
        )


def _even_indices(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``range(count)``, evenly spread, with both ends (the last one only for a limit of 1)."""
    if count <= limit:
        return list(range(count))
    if limit == 1:
        return [count - 1]
    return [round(position * (count - 1) / (limit - 1)) for position in range(limit)]


def _read(frame: Frame) -> Image.Image:
    """Open a frame as "L" or "RGB", transparency laid on white; the file is closed again."""
    if not isinstance(frame, Image.Image):
        with Image.open(frame) as opened:
            opened.load()
            return _read(opened)
    if frame.mode in ("L", "1"):
        return frame.convert("L")
    if frame.has_transparency_data:
        rgba = frame.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (_BACKGROUND,) * 4)
        return Image.alpha_composite(white, rgba).convert("RGB")
    return frame.convert("RGB")


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Centre ``image`` on a canvas of ``size``, enlarged by a whole factor or shrunk in proportion."""
    if image.size == size:
        return image
    ratio = min(size[0] / image.width, size[1] / image.height)
    if ratio >= 1:
        factor = min(size[0] // image.width, size[1] // image.height)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    else:
        shrunk = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        image = image.resize(shrunk, Image.Resampling.BOX)
    canvas = Image.new(image.mode, size, _BACKGROUND if image.mode == "L" else (_BACKGROUND,) * 3)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas
