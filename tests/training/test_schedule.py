"""Schedules: pure functions of the images seen, with the paper's boundaries."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.training.schedule import ConstantSchedule, CosineSchedule, ProgressiveSchedule
from tolerances import named

K = 600_000


def paper(resolution: int = 1024) -> ProgressiveSchedule:
    resolutions = [2**e for e in range(2, resolution.bit_length())]
    return ProgressiveSchedule.build(resolutions, phase_images=K, batch_sizes=16, learning_rates=1e-3)


def test_holds_4x4_then_fades_and_holds_each_doubling() -> None:
    schedule = paper(16)
    expected = [
        (0, 4, 1.0, False),
        (K - 1, 4, 1.0, False),
        (K, 8, 0.0, True),
        (K + K // 4, 8, 0.25, True),
        (2 * K - 1, 8, (K - 1) / K, True),
        (2 * K, 8, 1.0, False),
        (3 * K - 1, 8, 1.0, False),
        (3 * K, 16, 0.0, True),
        (4 * K, 16, 1.0, False),
        (5 * K, 16, 1.0, False),
        (50 * K, 16, 1.0, False),
    ]
    found = [(n, schedule.phase(n).resolution, schedule.phase(n).alpha, schedule.phase(n).fading) for n, *_ in expected]
    assert found == expected
    assert schedule.total_images == 5 * K


def test_a_scaled_phase_differs_in_its_learning_rate_alone() -> None:
    phase = paper(16).phase(K + K // 4)
    assert dataclasses.asdict(phase.scaled(0.25)) == {**dataclasses.asdict(phase), "learning_rate": 0.25e-3}
    assert phase.scaled(1) is phase


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (3, 4, [3]), (1, 4, [1]), (3, 1, [1, 1, 1]), (5, 4, [5])],
)
def test_batches_end_with_the_epoch_and_leave_no_single_image(images: int, size: int, expected: list[int]) -> None:
    schedule, seen, sizes = ConstantSchedule(3 * images, size, 1.0, epoch_images=images), 0, []
    while seen < schedule.total_images:
        sizes.append(schedule.phase(seen).batch_size)
        seen += sizes[-1]
    assert sizes == 3 * expected
    with pytest.raises(ValueError, match="images_seen"):
        schedule.phase(-1)


def test_level_of_detail_is_the_authors() -> None:
    """lod(0) is the largest; at 600k (2k + 1) images k doublings are done and the next fade begins."""
    schedule = paper()
    assert schedule.lod(0) == 8
    for k in range(9):
        assert schedule.lod(K * (2 * k + 1)) == 8 - k
    assert schedule.lod(K + K // 2) == 7.5
    assert schedule.total_images == 17 * K


@given(st.integers(0, 6 * K), st.integers(0, 1000))
def test_level_of_detail_never_rises(images_seen: int, more: int) -> None:
    assert paper(16).lod(images_seen + more) <= paper(16).lod(images_seen)


def test_the_document_fades_in_half_of_every_stage_from_1e_5() -> None:
    schedule = ProgressiveSchedule.build(
        [4, 8], phase_images=100, batch_sizes=10, learning_rates=1e-3, fade_first=True, first_alpha=1e-5
    )
    assert schedule.phase(0).alpha == 1e-5
    assert schedule.phase(50).alpha == 0.5
    assert schedule.phase(99).fading
    assert schedule.phase(100).alpha == 1.0  # exactly half of the stage
    assert schedule.phase(200).resolution == 8


def test_batches_and_rates_follow_the_resolution() -> None:
    schedule = ProgressiveSchedule.build(
        [4, 8], phase_images=100, batch_sizes={4: 64, 8: 32}, learning_rates={4: 1e-3, 8: 2e-3}
    )
    assert (schedule.phase(0).batch_size, schedule.phase(0).learning_rate) == (64, 1e-3)
    assert (schedule.phase(100).batch_size, schedule.phase(100).learning_rate) == (32, 2e-3)


def test_largest_phase_is_a_fade_of_the_last_stage() -> None:
    phase = paper(32).largest_phase()
    assert (phase.resolution, phase.alpha, phase.fading) == (32, 0.5, True)
    alone = ProgressiveSchedule.build([4], phase_images=10, batch_sizes=1, learning_rates=1.0)
    assert alone.largest_phase().alpha == 1.0


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"resolutions": (4, 16)}, "resolutions"),
        ({"resolutions": ()}, "resolutions"),
        ({"fade_images": (0,)}, "fade_images"),
        ({"fade_images": (0, -1)}, "fade_images"),
        ({"stable_images": (0, 5)}, "fade_images \\+ stable_images"),
        ({"batch_sizes": (0, 1)}, "batch_sizes"),
        ({"learning_rates": (0.0, 1.0)}, "learning_rates"),
        ({"first_alpha": 2.0}, "first_alpha"),
    ],
)
def test_values_out_of_range_are_named(changes: dict[str, tuple[int, ...]], name: str) -> None:
    values = {
        "resolutions": (4, 8),
        "fade_images": (0, 5),
        "stable_images": (5, 5),
        "batch_sizes": (1, 1),
        "learning_rates": (1e-3, 1e-3),
    }
    with pytest.raises(ValueError, match=f"`{name}`"):
        ProgressiveSchedule(**{**values, **changes})


def test_missing_resolutions_and_negative_positions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[8\] too"):
        ProgressiveSchedule.build([4, 8], phase_images=1, batch_sizes={4: 1}, learning_rates=1.0)
    with pytest.raises(ValueError, match="`images_seen`"):
        paper().phase(-1)


def test_constant_schedule() -> None:
    schedule = ConstantSchedule(100, 10, 2e-4)
    assert schedule.total_images == 100
    assert schedule.phase(50).batch_size == 10
    assert schedule.phase(50).stage == 0
    for bad in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 0.0)):
        with pytest.raises(ValueError, match="must be"):
            ConstantSchedule(*bad)


def test_cosine_rises_in_a_line_and_falls_to_zero() -> None:
    schedule = CosineSchedule(1000, 50, 0.8, warmup_images=200)
    rates = {n: schedule.phase(n).learning_rate for n in (0, 50, 100, 150, 200, 400, 600, 800, 1000, 5000)}
    root = math.sqrt(0.5)
    expected = [0.2, 0.4, 0.6, 0.8, 0.8, 0.4 * (1 + root), 0.4, 0.4 * (1 - root), 0.0, 0.0]
    assert list(rates.values()) == pytest.approx(
        expected, rel=named("float64_eps")["rtol"], abs=named("float64_eps")["rtol"]
    )
    assert schedule.total_images == 1000
    assert CosineSchedule(10, 5, 0.1).phase(0).learning_rate == 0.1


@given(images=st.integers(1, 500), batch_size=st.integers(1, 64), share=st.floats(0, 0.99), data=st.data())
def test_cosine_never_leaves_its_bounds_and_turns_once(
    images: int, batch_size: int, share: float, data: st.DataObject
) -> None:
    warmup = int(share * images)
    schedule = CosineSchedule(images, batch_size, 0.3, warmup_images=warmup, resolution=32)
    rates = [schedule.phase(seen).learning_rate for seen in range(images)]
    assert min(rates) > 0
    assert max(rates) <= 0.3
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    phase = schedule.phase(data.draw(st.integers(0, 2 * images)))
    assert (phase.batch_size, phase.resolution, phase.alpha, phase.fading) == (batch_size, 32, 1.0, False)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"images": 0}, "total_images"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"warmup_images": 10}, "warmup_images"),
        ({"warmup_images": -1}, "warmup_images"),
    ],
)
def test_cosine_names_what_is_out_of_range(change: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        CosineSchedule(**{"images": 10, "batch_size": 2, "learning_rate": 0.1, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`images_seen`"):
        CosineSchedule(10, 2, 0.1).phase(-1)
