"""Running moments against NumPy in any split and order, over two processes; their files in the form of pytorch-fid."""

import contextlib
import io
import math
import os
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ganblocks
from ganblocks.errors import FingerprintMismatchError, MetricError
from ganblocks.metrics.frechet import frechet_distance
from ganblocks.metrics.statistics import RunningStatistics, Statistics
from oracles import assert_matches, to_array
from strategies import tensors
from tolerances import for_dtype, named

EXACT64 = for_dtype(torch.float64)
NORMAL_COUNT = 600  # more than two blocks


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gathered(*batches, **options):
    running = RunningStatistics(batches[0].shape[1])
    for batch in batches:
        running.update(batch)
    return running.compute(**options)


def same_bits(a, b):
    return torch.equal(a.mean, b.mean) and torch.equal(a.cov, b.cov) and a.count == b.count


def same_within_rounding(a, b, tolerance="sharded"):
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, **named(tolerance))
    torch.testing.assert_close(a.cov, b.cov, **named(tolerance))


@given(
    rows=tensors(shape=st.tuples(st.integers(2, 40), st.integers(1, 5)), values=("normal", "tiny", "offset", "large")),
    ddof=st.integers(0, 1),
)
def test_moments_are_those_of_numpy(rows, ddof):
    found = gathered(rows, ddof=ddof)
    values = to_array(rows)
    magnitude = float(np.abs(values).max())
    assert found.mean.dtype == found.cov.dtype == torch.float64
    assert (found.count, found.ddof, found.dimension) == (*values[:, 0].shape, ddof, values.shape[1])
    assert_matches(found.mean, values.mean(0), magnitude=magnitude)
    assert_matches(found.cov, np.cov(values, rowvar=False, ddof=ddof).reshape(found.cov.shape), magnitude=magnitude**2)
    assert torch.equal(found.cov, found.cov.T)


@given(cuts=st.lists(st.integers(0, NORMAL_COUNT), max_size=5))
def test_how_rows_are_split_into_batches_changes_no_bit(cuts):
    rows = normal(NORMAL_COUNT, 7) * 3 + 5
    edges = [0, *sorted(cuts), NORMAL_COUNT]
    batches = [rows[start:end] for start, end in pairwise(edges)]
    assert same_bits(gathered(*batches), gathered(rows))


@pytest.mark.parametrize("size", [1, 7, NORMAL_COUNT])
def test_batches_of_1_7_and_all_give_the_same_bits_and_the_same_distance(size):
    rows, other = normal(NORMAL_COUNT, 7), gathered(normal(100, 7, seed=1))
    found = gathered(*rows.split(size))
    assert torch.equal(found.cov, found.cov.T)
    assert same_bits(found, gathered(rows))
    assert frechet_distance(found, other).value == frechet_distance(gathered(rows), other).value


@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 30, 255, 256, 257, 300]), min_size=1, max_size=4).filter(
        lambda sizes: sum(sizes) > 1
    ),
    order=st.randoms(use_true_random=False),
)
def test_parts_merge_in_any_order(sizes, order):
    rows = normal(sum(sizes), 4) * 2 + 10
    parts = [RunningStatistics(4).update(part) for part in rows.split(sizes)]
    order.shuffle(parts)
    merged = RunningStatistics(4)
    for part in parts:
        merged.merge(part)
    assert merged.count == sum(sizes)
    same_within_rounding(merged.compute(), gathered(rows))
    while len(parts) > 1:  # pairs of pairs
        parts = [sum(parts[i : i + 2][1:], start=parts[i]) for i in range(0, len(parts), 2)]
    same_within_rounding(parts[0].compute(), gathered(rows))


def test_merging_leaves_the_other_one_alone_and_a_sum_both():
    first, second = normal(300, 3), normal(456, 3, seed=1)
    a, b = RunningStatistics(3).update(first), RunningStatistics(3).update(second)
    before = a.compute(), b.compute()
    total = a + b
    assert same_bits(a.compute(), before[0])
    assert same_bits(b.compute(), before[1])
    assert a.merge(b) is a
    assert same_bits(b.compute(), before[1])
    assert same_bits(a.compute(), total.compute())
    assert same_bits((RunningStatistics(3) + b).compute(), before[1])
    same_within_rounding(b.merge(b).compute(ddof=0), gathered(second, second, ddof=0))


def test_more_rows_may_follow_a_result():
    rows = normal(500, 3)
    running = RunningStatistics(3).update(rows[:400])
    early = running.compute()
    kept = early.mean.clone(), early.cov.clone()
    running.update(rows[400:])
    assert same_bits(running.compute(), gathered(rows))
    assert torch.equal(early.mean, kept[0])
    assert torch.equal(early.cov, kept[1])


def test_a_large_common_offset_costs_no_digits_of_float32_features():
    features = normal(2000, 16, dtype=torch.float32) * 0.01 + 100
    found = gathered(features)
    assert float(torch.linalg.eigvalsh(found.cov).min()) > 0
    exact = np.cov(to_array(features - 100), rowvar=False)  # the difference of neighbours is exact in float32
    torch.testing.assert_close(found.cov, torch.from_numpy(exact), **EXACT64)
    assert frechet_distance(found, found).value < named("frechet_self")["atol"]


def test_the_divisor_is_the_count_minus_ddof():
    rows = torch.arange(20.0).reshape(10, 2)  # products 330 in all places
    assert gathered(rows, ddof=0).cov.tolist() == [[33.0, 33.0], [33.0, 33.0]]
    assert gathered(rows, ddof=1).cov.tolist() == [[330 / 9, 330 / 9], [330 / 9, 330 / 9]]
    traces = [float(gathered(normal(10, 5), ddof=ddof).cov.trace()) for ddof in (0, 1)]
    assert traces[0] / traces[1] == pytest.approx(0.9, rel=EXACT64["rtol"])


def test_gradients_autocast_and_inference_mode_do_not_matter():
    rows = normal(300, 6).requires_grad_()
    expected = gathered(rows.detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same_bits(gathered(rows), expected)
    with torch.inference_mode():
        running = RunningStatistics(6).update(rows[:200])
        inside = running.compute()
    assert not inside.cov.is_inference()
    assert same_bits(running.update(rows[200:]).compute(), expected)
    assert not expected.cov.requires_grad


def test_rows_with_a_value_that_is_not_finite_are_refused_whole():
    running = RunningStatistics(2).update(torch.ones(3, 2))
    with pytest.raises(MetricError, match="`features` holds 1 of 4 values"):
        running.update(torch.tensor([[1.0, 2.0], [3.0, math.nan]]))
    assert running.count == 3
    assert running.update(torch.zeros(0, 2)).compute().mean.tolist() == [1.0, 1.0]
    with pytest.raises(MetricError, match="NaN or infinite"):
        RunningStatistics(1).update(torch.tensor([1e200, -1e200], dtype=torch.float64)[:, None]).compute()
    large = RunningStatistics(1).update(torch.full((512, 1), 2.0**1000, dtype=torch.float64)).compute()
    assert (float(large.mean), float(large.cov)) == (2.0**1000, 0.0)


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_rows_have_no_covariance(rows):
    with pytest.raises(MetricError, match=f"at least 2 rows, but there are {rows}"):
        RunningStatistics(3).update(torch.zeros(rows, 3)).compute(ddof=0)


def test_wrong_uses_are_named():
    running = RunningStatistics(3, fingerprint="net-1").update(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"`features\.shape` is \(2, 4\).*rows of 3 values"):
        running.update(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"`features\.shape` is \(0, 4\)"):
        running.update(torch.zeros(0, 4))
    with pytest.raises(TypeError, match="`features` is a list"):
        running.update([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=r"`other\.dimension` is 2, but must be 3"):
        running.merge(RunningStatistics(2, fingerprint="net-1"))
    for other in ("net-2", None):
        with pytest.raises(FingerprintMismatchError, match="'net-1'"):
            running.merge(RunningStatistics(3, fingerprint=other))
    with pytest.raises(FingerprintMismatchError, match="'net-1'"):
        running + RunningStatistics(3)
    with pytest.raises(TypeError, match="unsupported operand"):
        running + 1
    for ddof in (-1, 5):
        with pytest.raises(ValueError, match="`ddof` is"):
            running.compute(ddof=ddof)
    with pytest.raises(ValueError, match="`dimension` is 0"):
        RunningStatistics(0)
    with pytest.raises(ValueError, match="`fingerprint` is ''"):
        RunningStatistics(1, fingerprint="")
    assert repr(running) == "RunningStatistics(3, fingerprint='net-1', count=5)"


def test_without_processes_there_is_nothing_to_reduce():
    running = RunningStatistics(3).update(normal(5, 3))
    before = running.compute()
    assert running.reduce().reduce() is running
    assert same_bits(running.compute(), before)


PROCESS = """
import os, sys
from datetime import timedelta
import torch, torch.distributed as dist
from ganblocks.errors import DistributedError, FingerprintMismatchError
from ganblocks.metrics.statistics import RunningStatistics

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(seconds=60)
)
rows = torch.load(f"{folder}/rows.pt", weights_only=True)

def reduced(part, name):
    running = RunningStatistics(rows.shape[1], fingerprint="net-1").update(part).reduce()
    running.compute().save(f"{folder}/{name}-{rank}.npz")
    return running

once = reduced(rows[:417] if rank == 0 else rows[417:], "uneven")
reduced(rows if rank == 1 else rows[:0], "empty")
try:
    once.reduce()
except DistributedError as error:
    assert "reduced before" in str(error), error
else:
    sys.exit("a second reduction went through")
assert RunningStatistics(3).reduce().count == 0
for options, kind in (
    ([dict(dimension=3), dict(dimension=4)], DistributedError),
    ([dict(dimension=3, fingerprint="net-1"), dict(dimension=3)], FingerprintMismatchError),
):
    running = RunningStatistics(**options[rank])
    running.update(torch.ones(2, running.dimension))
    try:
        running.reduce()
    except kind:
        assert running.count == 2
    else:
        sys.exit(f"{options} went through")
dist.barrier()
dist.destroy_process_group()
"""


def test_two_processes_with_uneven_or_empty_parts_find_what_one_finds(tmp_path):
    rows = normal(600, 5) * 3 + 50
    torch.save(rows, tmp_path / "rows.pt")
    source = str(Path(ganblocks.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    expected = gathered(rows)
    for name in ("uneven", "empty"):
        first, second = (Statistics.load(tmp_path / f"{name}-{rank}.npz") for rank in (0, 1))
        assert same_bits(first, second)
        assert first.fingerprint == "net-1"
        same_within_rounding(first, expected)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mean": torch.zeros(3)}, ValueError, r"`cov\.shape`"),
        ({"cov": torch.tensor([[1.0, 0.5], [0.4, 1.0]])}, ValueError, "`cov` is .* symmetric"),
        ({"cov": torch.full((2, 2), math.nan)}, MetricError, "`cov` holds 4 of 4"),
        ({"mean": torch.tensor([math.inf, 0.0])}, MetricError, "`mean` holds 1 of 2"),
        ({"mean": [0.0, 0.0]}, TypeError, "`mean` is a list"),
        ({"count": 1}, ValueError, "`count` is 1, but must be at least 2"),
        ({"count": 9.0}, TypeError, r"`count` is 9\.0"),
        ({"count": True}, TypeError, "`count` is True"),
        ({"ddof": 9}, ValueError, "`ddof` is 9.*below the count of 9"),
        ({"ddof": -1}, ValueError, "`ddof` is -1"),
        ({"fingerprint": ""}, ValueError, "`fingerprint` is ''"),
        ({"fingerprint": "a\x00"}, ValueError, "`fingerprint`"),
        ({"fingerprint": 7}, TypeError, "`fingerprint` is 7"),
    ],
)
def test_statistics_that_cannot_be_are_named(options, error, match):
    with pytest.raises(error, match=match):
        Statistics(**{"mean": torch.zeros(2), "cov": torch.eye(2), "count": 9, **options})


def test_statistics_print_short_and_take_the_counts_of_numpy():
    statistics = Statistics(torch.zeros(2), torch.eye(2), np.int64(9), "net-1", 0)
    assert repr(statistics) == "Statistics(dimension=2, count=9, fingerprint='net-1', ddof=0)"
    assert type(statistics.count) is int


@pytest.mark.parametrize("fingerprint", [None, "net-1 ü \U0001f600"])
@pytest.mark.parametrize("ddof", [0, 1])
def test_a_file_keeps_every_bit(tmp_path, fingerprint, ddof):
    statistics = RunningStatistics(5, fingerprint=fingerprint).update(normal(40, 5)).compute(ddof=ddof)
    statistics.save(tmp_path / "new" / "folder" / "a.npz")
    found = Statistics.load(tmp_path / "new" / "folder" / "a.npz")
    assert same_bits(found, statistics)
    assert (found.fingerprint, found.ddof) == (fingerprint, ddof)
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.npz"]


def test_pytorch_fid_reads_our_files(tmp_path):
    statistics = RunningStatistics(5, fingerprint="net-1").update(normal(40, 5)).compute()
    statistics.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as f:
        mu, sigma = f["mu"][:], f["sigma"][:]
    assert mu.dtype == sigma.dtype == np.float64
    assert mu.tobytes() == statistics.mean.numpy().tobytes()
    assert sigma.tobytes() == statistics.cov.numpy().tobytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4"])
def test_we_read_files_of_pytorch_fid(tmp_path, save, order, dtype):
    rows = to_array(normal(40, 5))
    mu = rows.mean(0).astype(dtype)
    sigma = np.array(np.cov(rows, rowvar=False), dtype=dtype, order=order)
    sigma[0, 1] += 1e-7  # as rounding may leave it: rows and columns must not be exchanged
    save(tmp_path / "a.npz", mu=mu, sigma=sigma)
    found = Statistics.load(tmp_path / "a.npz", count=40, fingerprint="net-1")
    assert found.mean.numpy().tobytes() == mu.astype(np.float64).tobytes()
    assert found.cov.numpy().tobytes() == sigma.astype(np.float64).tobytes()
    assert (found.count, found.fingerprint, found.ddof) == (40, "net-1", 1)
    assert Statistics.load(tmp_path / "a.npz", count=40, ddof=0).ddof == 0
    found.cov.add_(1)  # the memory is its own
    with pytest.raises(ValueError, match="does not say how many rows"):
        Statistics.load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="`count` is 1"):
        Statistics.load(tmp_path / "a.npz", count=1)
    with pytest.raises(ValueError, match="`ddof` is -1"):
        Statistics.load(tmp_path / "a.npz", count=40, ddof=-1)


def test_a_file_and_a_caller_who_disagree_are_told_so(tmp_path):
    RunningStatistics(3, fingerprint="net-1").update(normal(9, 3)).compute().save(tmp_path / "a.npz")
    assert Statistics.load(tmp_path / "a.npz", count=9, fingerprint="net-1", ddof=1).count == 9
    for options in ({"count": 10}, {"fingerprint": "net-2"}, {"ddof": 0}):
        name, given = next(iter(options.items()))
        with pytest.raises(FingerprintMismatchError, match=f"says {name} .* the caller says {given!r}"):
            Statistics.load(tmp_path / "a.npz", **options)


def npy(descr, shape, content=b"", version=1, order=False):
    """An array file with a header that claims what it likes."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape!r}, }}".encode().ljust(117) + b"\n"
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + content


MU, SIGMA = npy("<f8", (2,), bytes(16)), npy("<f8", (2, 2), bytes(32))


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


class Bomb:
    """Would show if it was ever unpickled."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def pickled():
    stream = io.BytesIO()
    np.save(stream, np.array([Bomb(), Bomb()], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"mu": MU}, "it has no array `sigma`"),
        ({"sigma": SIGMA}, "it has no array `mu`"),
        ({"mu": pickled(), "sigma": SIGMA}, "the dtype of mu` is 'object'"),
        ({"mu": MU, "sigma": npy("|O", (2, 2), pickled())}, "the dtype of sigma` is 'object'"),
        ({"mu": npy("<i8", (2,), bytes(16)), "sigma": SIGMA}, "the dtype of mu` is 'int64'"),
        ({"mu": npy("<c16", (2,), bytes(32)), "sigma": SIGMA}, "the dtype of mu"),
        ({"mu": npy("<f16", (2,), bytes(32)), "sigma": SIGMA}, "the dtype of mu"),
        ({"mu": MU, "sigma": npy("<f8", (2**40, 2**40))}, "the shape of sigma"),
        ({"mu": npy("<f8", (10**9,)), "sigma": SIGMA}, "the shape of mu"),
        ({"mu": MU, "sigma": npy("<f8", (16384, 16384))}, "`sigma` is '0 bytes', but must be '?2147483648 bytes"),
        ({"mu": MU, "sigma": npy("<f8", (2, 2), bytes(31))}, "31 bytes"),
        ({"mu": MU, "sigma": npy("<f8", (2, 2), bytes(33))}, "33 bytes"),
        ({"mu": npy("<f8", (-2,)), "sigma": SIGMA}, "the shape of mu"),
        ({"mu": npy("<f8", (0,)), "sigma": npy("<f8", (0, 0))}, "the shape of mu"),
        ({"mu": npy("<f8", (1, 2), bytes(16)), "sigma": SIGMA}, "the shape of mu"),
        ({"mu": npy("<f8", "x"), "sigma": SIGMA}, "cannot|can be read"),
        ({"mu": b"", "sigma": SIGMA}, "no file of statistics that can be read"),
        ({"mu": b"not an array at all", "sigma": SIGMA}, "no file of statistics that can be read"),
        ({"mu": npy("<f8", (2,), bytes(16), version=9), "sigma": SIGMA}, "no file of statistics that can be read"),
        ({"mu": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "sigma": SIGMA}, "no file of statistics that can be read"),
        ({"mu": MU, "sigma": npy("<f8", (3, 3), bytes(72))}, "does not hold the moments"),
        ({"mu": np.full(2, math.nan), "sigma": SIGMA}, "`mean` holds 2 of 2"),
        ({"mu": MU, "sigma": np.array([[1.0, 2.0], [3.0, 4.0]])}, "symmetric"),
        ({"mu": MU, "sigma": np.array([[1.0, math.inf], [math.inf, 1.0]])}, "`cov` holds 2 of 4"),
        ({"mu": MU, "sigma": SIGMA, "count": np.array(1)}, "`count` is 1"),
        ({"mu": MU, "sigma": SIGMA, "count": np.array(9.5)}, "the dtype of count"),
        ({"mu": MU, "sigma": SIGMA, "count": np.array([9, 9])}, "the shape of count"),
        ({"mu": MU, "sigma": SIGMA, "count": np.array(9), "ddof": np.array(9)}, "`ddof` is 9"),
        ({"mu": MU, "sigma": SIGMA, "fingerprint": np.array("x" * 2000)}, "the dtype of fingerprint"),
        ({"mu": MU, "sigma": SIGMA, "fingerprint": np.array("a\nb")}, "`fingerprint`"),
        ({"mu": MU, "sigma": SIGMA, "fingerprint": np.array(b"net")}, "the dtype of fingerprint"),
    ],
)
def test_hostile_files_are_refused_by_name_and_nothing_in_them_runs(tmp_path, monkeypatch, members, match):
    monkeypatch.chdir(tmp_path)
    contents = {}
    for name, content in members.items():
        stream = io.BytesIO()
        if isinstance(content, np.ndarray):
            np.save(stream, content)
        contents[name] = stream.getvalue() or content
    path = archive(tmp_path / "a.npz", **contents)
    with pytest.raises(MetricError, match=match) as caught:
        Statistics.load(path, count=None if "count" in members else 9)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "unpickled").exists()


def test_missing_files_folders_and_other_files_are_metric_errors(tmp_path):
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("missing.npz", "", "text.npz", "single.npy"):
        with pytest.raises(MetricError, match="no file of statistics that can be read"):
            Statistics.load(tmp_path / name, count=9)


def test_no_damage_goes_further_than_a_metric_error(tmp_path):
    """Cut anywhere, or with a byte changed: the values, or the error. The checksum sees all damage to values."""
    statistics = RunningStatistics(2, fingerprint="net-1").update(normal(9, 2)).compute()
    path = tmp_path / "a.npz"
    statistics.save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(MetricError):
            Statistics.load(path)
    flips = [(position, (0x01, 0x80)[position % 2]) for position in range(0, len(whole), 3)]
    survived = 0
    for position, mask in flips:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ mask]) + whole[position + 1 :])
        with contextlib.suppress(MetricError, ValueError):  # ValueError: the name `count` itself was damaged
            found = Statistics.load(path)
            assert same_bits(found, statistics)
            survived += 1
    assert 0 < survived < len(flips) / 2


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    old = RunningStatistics(3).update(normal(9, 3)).compute()
    old.save(tmp_path / "a.npz")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ganblocks.metrics.statistics.os.fsync", full)
    with pytest.raises(MetricError, match=r"cannot be written to .*a\.npz: .*No space left"):
        RunningStatistics(3).update(normal(9, 3, seed=1)).compute().save(tmp_path / "a.npz")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert same_bits(Statistics.load(tmp_path / "a.npz"), old)
    with pytest.raises(MetricError, match="cannot be written"):
        old.save(tmp_path / "a.npz" / "below a file.npz")
