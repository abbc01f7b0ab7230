"""A moving picture: its frames, their times and places read back from the file."""

import numpy as np
import pytest
from PIL import Image

from ganblocks.visualization.animation import save_animation


def read(path):
    with Image.open(path) as opened:
        frames, durations = [], []
        for index in range(opened.n_frames):
            opened.seek(index)
            opened.load()
            durations.append(opened.info["duration"])
            frames.append(np.asarray(opened.convert("RGB")))
        return opened.format, opened.info.get("loop"), durations, frames


def grey(value, size=(4, 4)):
    return Image.new("L", size, value)


@pytest.mark.parametrize(("suffix", "file_format"), [(".gif", "GIF"), (".webp", "WEBP"), (".GIF", "GIF")])
def test_frames_times_and_loop_are_kept(tmp_path, suffix, file_format):
    path = tmp_path / "new" / f"run{suffix}"
    save_animation([grey(0), grey(128), grey(250)], path, frame_seconds=0.2, last_frame_seconds=0.9)
    found, loop, durations, frames = read(path)
    assert found == file_format
    assert loop == 0
    if file_format == "GIF":
        assert durations == [200, 200, 900]
    assert [round(float(frame.mean()) / 10) for frame in frames] == [0, 13, 25]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_grey_frames_survive_a_gif_without_loss(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save_animation([Image.fromarray(levels), Image.fromarray(255 - levels)], tmp_path / "run.gif")
    frames = read(tmp_path / "run.gif")[3]
    assert np.array_equal(frames[0], np.stack([levels] * 3, axis=-1))
    assert np.array_equal(frames[1], np.stack([255 - levels] * 3, axis=-1))


def test_each_frame_has_a_palette_of_its_own(tmp_path):
    ramp = np.zeros((16, 16, 3), dtype=np.uint8)
    ramp[..., 0] = np.arange(256).reshape(16, 16)  # 256 reds, then 256 blues: no palette of 256 holds both
    save_animation([Image.fromarray(ramp), Image.fromarray(ramp[..., ::-1])], tmp_path / "run.gif")
    frames = read(tmp_path / "run.gif")[3]
    assert abs(frames[0].astype(int) - ramp).max() <= 2
    assert abs(frames[1].astype(int) - ramp[..., ::-1]).max() <= 2


def test_small_frames_are_enlarged_in_whole_squares_and_centred_on_white(tmp_path):
    small = Image.fromarray(np.array([[0, 60], [120, 180]], dtype=np.uint8))
    save_animation([small, grey(90, (8, 5))], tmp_path / "run.gif")
    frames = read(tmp_path / "run.gif")[3]
    expected = np.full((5, 8), 255, dtype=np.uint8)
    expected[0:4, 2:6] = np.asarray(small).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(frames[0][..., 0], expected)
    assert (frames[1] == 90).all()


def test_the_default_canvas_holds_the_widest_and_the_highest(tmp_path):
    save_animation([grey(0, (3, 8)), grey(0, (6, 2))], tmp_path / "run.gif")
    assert read(tmp_path / "run.gif")[3][0].shape == (8, 6, 3)


def test_a_given_size_shrinks_larger_frames_in_proportion(tmp_path):
    save_animation([grey(0, (40, 20))], tmp_path / "run.gif", size=(10, 10))
    frame = read(tmp_path / "run.gif")[3][0]
    assert frame.shape == (10, 10, 3)
    rows = np.flatnonzero((frame == 0).all(axis=(1, 2)))
    assert rows.tolist() == [2, 3, 4, 5, 6]


def test_long_runs_are_thinned_evenly_with_both_ends(tmp_path):
    frames = [grey(value) for value in range(201)]
    save_animation(frames, tmp_path / "run.gif", max_frames=5)
    assert [int(frame[0, 0, 0]) for frame in read(tmp_path / "run.gif")[3]] == [0, 50, 100, 150, 200]
    save_animation(frames, tmp_path / "run.gif", max_frames=1)
    assert [int(frame[0, 0, 0]) for frame in read(tmp_path / "run.gif")[3]] == [200]
    save_animation(frames, tmp_path / "run.gif")
    assert len(read(tmp_path / "run.gif")[3]) == 120


def test_frames_left_out_are_never_opened(tmp_path):
    grey(1).save(tmp_path / "first.png")
    grey(2).save(tmp_path / "last.png")
    frames = [tmp_path / "first.png", tmp_path / "missing.png", str(tmp_path / "last.png")]
    save_animation(frames, tmp_path / "run.gif", max_frames=2)
    assert len(read(tmp_path / "run.gif")[3]) == 2
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        save_animation(frames, tmp_path / "run.gif")
    assert len(read(tmp_path / "run.gif")[3]) == 2


def test_transparency_is_laid_on_white_and_modes_may_mix(tmp_path):
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    palette = Image.new("RGB", (4, 4), (0, 200, 0)).quantize(4)
    save_animation([clear, grey(7), palette, Image.new("1", (4, 4), 0)], tmp_path / "run.gif")
    colors = [frame[0, 0].tolist() for frame in read(tmp_path / "run.gif")[3]]
    assert colors == [[255, 255, 255], [7, 7, 7], [0, 200, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("frames", "name", "options", "match"),
    [
        ([], "run.gif", {}, "frames"),
        ([grey(0)], "run.mp4", {}, r"\.gif"),
        ([grey(0)], "run", {}, r"\.gif"),
        ([grey(0)], "run.gif", {"frame_seconds": 0.0}, "frame_seconds"),
        ([grey(0)], "run.gif", {"last_frame_seconds": float("nan")}, "last_frame_seconds"),
        ([grey(0)], "run.gif", {"max_frames": 0}, "max_frames"),
        ([grey(0)], "run.gif", {"size": (0, 4)}, "size"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_written(tmp_path, frames, name, options, match):
    with pytest.raises(ValueError, match=match):
        save_animation(frames, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []
