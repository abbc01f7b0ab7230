"""Mean and covariance of feature rows: gathered in one pass, merged, reduced over processes, kept in files.

Accumulation is that of Chan, Golub and LeVeque (1983): counts, means and sums of products about the mean, in float64,
so that a large common offset of the features costs no digits.
"""

import hashlib
import io
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ganblocks._checks import require, require_rank
from ganblocks._files import written_atomically
from ganblocks.errors import DistributedError, FingerprintMismatchError, MetricError
from ganblocks.metrics.rows import as_moments, as_rows
from ganblocks.metrics.sharding import exchange_device

__all__ = ["RunningStatistics", "Statistics"]

_BLOCK_ROWS = 256
_LARGEST_DIMENSION = 16_384  # of a file: its covariance then takes 2 GiB
_LARGEST_HEADER = 4096  # bytes before the values of an array in a file


@dataclass(frozen=True, eq=False, repr=False)
class Statistics:
    """What a Frechet distance needs to know about a set of features.

    Args:
        mean: ``[D]``; kept in float64, on its device.
        cov: ``[D, D]``, symmetric; kept in float64, not copied where it is float64 already.
        count: Rows that both were computed from, at least 2.
        fingerprint: Of the feature extractor; ``None`` = unknown, which equals only another unknown.
        ddof: The covariance is the sum of products over ``count - ddof``; 1 is that of pytorch-fid, 0 that of StyleGAN.

    Raises:
        TypeError: Moments that are no tensors of real numbers.
        ValueError: A shape, count or ``ddof`` that cannot be, or a covariance that is not symmetric within rounding.
        MetricError: A moment holds NaN or infinity.
    """

    mean: Tensor
    cov: Tensor
    count: int
    fingerprint: str | None = None
    ddof: int = 1

    def __post_init__(self) -> None:
        mean, cov = as_moments(self.mean, self.cov, "mean", "cov")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "cov", cov)
        for name in ("count", "ddof"):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            require(whole, name, value, "a whole number", TypeError)
            object.__setattr__(self, name, int(value))
        require(self.count >= 2, "count", self.count, "at least 2")
        require(0 <= self.ddof < self.count, "ddof", self.ddof, f"at least 0 and below the count of {self.count}")
        _require_fingerprint(self.fingerprint)

    def __repr__(self) -> str:
        return (
            f"Statistics(dimension={self.dimension}, count={self.count}, fingerprint={self.fingerprint!r}, "
            f"ddof={self.ddof})"
        )

    @property
    def dimension(self) -> int:
        """Values of a row."""
        return len(self.mean)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` file that pytorch-fid and its relatives read too.

        It holds ``mu`` and ``sigma`` in float64, bit for bit, and further ``count``, ``ddof`` and, if known,
        ``fingerprint``. The name is taken as it is. The file appears whole or not at all; an older one is replaced.

        Raises:
            MetricError: It could not be written; an older file is then untouched.
        """
        arrays = {
            "mu": self.mean.cpu().numpy(),
            "sigma": self.cov.cpu().numpy(),
            "count": np.array(self.count, dtype=np.int64),
            "ddof": np.array(self.ddof, dtype=np.int64),
        }
        if self.fingerprint is not None:
            arrays["fingerprint"] = np.array(self.fingerprint)
        try:
            with written_atomically(path) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MetricError(f"the statistics cannot be written to {path}: {error}") from error

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        count: int | None = None,
        fingerprint: str | None = None,
        ddof: int | None = None,
    ) -> Self:
        """Read a file of `save`, or one of pytorch-fid, which tells ``mu`` and ``sigma`` only.

        Nothing in a file is executed, and nothing larger than the covariance of 16,384 dimensions is read.

        Args:
            path: The ``.npz`` file, compressed or not. Arrays of other names are ignored.
            count: Rows behind the file, where it does not say.
            fingerprint: Of the extractor, where it does not say; ``None`` leaves it unknown.
            ddof: Where it does not say; ``None`` = 1, as in pytorch-fid.

        Returns:
            The statistics, on the CPU.

        Raises:
            ValueError: Neither the file nor the caller says the count, or the caller says a count below 2 or a ``ddof``
                below 0.
            FingerprintMismatchError: File and caller both say something, and not the same.
            MetricError: The file is missing, damaged, too large, or its arrays are not the moments of a set.
        """
        require(count is None or count >= 2, "count", count, "None or at least 2")
        require(ddof is None or ddof >= 0, "ddof", ddof, "None or at least 0")
        try:
            if Path(path).exists() and not Path(path).is_file():  # opening a FIFO would wait for ever
                raise ValueError("it is no regular file")
            with Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
                stored = {name: _array(archive, name) for name in ("mu", "sigma")}
                names = set(archive.namelist())
                told: dict[str, Any] = {
                    name: _array(archive, name).item()
                    for name in ("count", "fingerprint", "ddof")
                    if f"{name}.npy" in names
                }
        except Exception as error:  # hostile bytes provoke errors of a dozen kinds in zipfile, zlib and NumPy
            raise MetricError(f"{path} is no file of statistics that can be read: {error}") from error
        for name, given in (("count", count), ("fingerprint", fingerprint), ("ddof", ddof)):
            if given is not None and told.setdefault(name, given) != given:
                raise FingerprintMismatchError(f"{path} says {name} {told[name]!r}, but the caller says {given!r}")
        if "count" not in told:
            raise ValueError(f"{path} does not say how many rows it was made from; pass count=")
        try:
            return cls(torch.from_numpy(stored["mu"]), torch.from_numpy(stored["sigma"]), **told)
        except (ValueError, TypeError, MetricError) as error:
            raise MetricError(f"{path} does not hold the moments of a set: {error}") from error


class RunningStatistics:
    """Mean and covariance of rows that arrive in batches, in memory for ``D * D + 256 * D`` numbers.

    Rows are gathered into blocks of 256 before anything is summed: how they were split into batches changes no bit.

    Args:
        dimension: Values of a row, D.
        fingerprint: Of the feature extractor; ``None`` = unknown.
        device: Where the sums are kept and computed; it must know float64.

    Raises:
        ValueError: A dimension below 1 or an empty fingerprint.
    """

    def __init__(
        self, dimension: int, *, fingerprint: str | None = None, device: torch.device | str | int = "cpu"
    ) -> None:
        require(dimension >= 1, "dimension", dimension, "at least 1")
        _require_fingerprint(fingerprint)
        self.dimension = dimension
        self.fingerprint = fingerprint
        self._reduced = False
        self._summed = 0  # rows in mean and products
        self._pending = 0  # rows in the block
        # Only ever written in place: ordinary tensors, even if batches arrive in inference mode.
        with torch.inference_mode(False):
            self._mean = torch.zeros(dimension, dtype=torch.float64, device=device)
            self._products = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)  # about the mean
            self._block = torch.zeros(_BLOCK_ROWS, dimension, dtype=torch.float64, device=device)

    def __repr__(self) -> str:
        return f"RunningStatistics({self.dimension}, fingerprint={self.fingerprint!r}, count={self.count})"

    @property
    def count(self) -> int:
        """Rows so far."""
        return self._summed + self._pending

    def update(self, features: Tensor) -> Self:
        """Add rows.

        Args:
            features: ``[N, D]``, N = 0 included; any real dtype and device. More dimensions are flattened.

        Returns:
            These statistics.

        Raises:
            ValueError: Rows of another dimension.
            MetricError: A value is NaN or infinite; nothing was added then.
        """
        require_rank(features, "features", 1)
        width = math.prod(features.shape[1:])
        expected = f"rows of {self.dimension} values"
        require(width == self.dimension, "features.shape", tuple(features.shape), expected)
        if len(features) == 0:
            return self
        rows = as_rows(features, "features").to(self._block.device)
        while len(rows):
            taken = rows[: _BLOCK_ROWS - self._pending]
            self._block[self._pending : self._pending + len(taken)].copy_(taken)
            self._pending += len(taken)
            rows = rows[len(taken) :]
            if self._pending == _BLOCK_ROWS:
                self._settle()
        return self

    def merge(self, other: "RunningStatistics") -> Self:
        """Add the rows of another one, which stays as it is. The order of merging counts only in the last bits.

        Returns:
            These statistics.

        Raises:
            ValueError: Another dimension.
            FingerprintMismatchError: Rows of another extractor.
        """
        require(other.dimension == self.dimension, "other.dimension", other.dimension, f"{self.dimension}")
        if other.fingerprint != self.fingerprint:
            raise FingerprintMismatchError(
                f"rows of the extractor {other.fingerprint!r} cannot join those of {self.fingerprint!r}"
            )
        pending = other._block[: other._pending].clone()  # `other` may be `self`
        self._join(other._summed, other._mean.to(self._mean.device), other._products.to(self._products.device))
        self._reduced |= other._reduced
        return self.update(pending)

    def __add__(self, other: "RunningStatistics") -> "RunningStatistics":
        if not isinstance(other, RunningStatistics):
            return NotImplemented
        total = RunningStatistics(self.dimension, fingerprint=self.fingerprint, device=self._mean.device)
        return total.merge(self).merge(other)

    def reduce(self, group: dist.ProcessGroup | None = None) -> Self:
        """Put the rows of all processes together, in every process. All of them must call it, once, at the end.

        Counts and means are summed first, then the products about the common mean. A process may have no row.

        Args:
            group: Of processes; ``None`` = the default one. Without a process group nothing happens.

        Returns:
            These statistics.

        Raises:
            FingerprintMismatchError: The processes used different extractors; raised in all of them.
            DistributedError: They have rows of different dimensions (raised in all of them), or were reduced before.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return self
        if self._reduced:
            raise DistributedError("these statistics were reduced before; a second time would count every row again")
        device = exchange_device(group, self._mean.device)
        self._require_agreement(group, device)
        if self._pending:
            self._settle()
        count = torch.tensor(self._summed, device=device)
        dist.all_reduce(count, group=group)
        total = int(count)
        self._reduced = True
        if total == 0:
            return self
        mean = (self._mean * (self._summed / total)).to(device)
        dist.all_reduce(mean, group=group)
        shift = self._mean.to(device) - mean
        products = self._products.to(device).addr(shift, shift, alpha=self._summed)
        dist.all_reduce(products, group=group)
        self._mean.copy_(mean)
        self._products.copy_(products)
        self._summed = total
        return self

    def compute(self, *, ddof: int = 1) -> Statistics:
        """Mean and covariance of the rows so far; more rows may follow.

        Args:
            ddof: The products are divided by the count minus this; 1 is unbiased, 0 the form of StyleGAN.

        Raises:
            ValueError: ``ddof`` is below 0 or not below the count.
            MetricError: Fewer than 2 rows, or an overflow.
        """
        if self.count < 2:
            raise MetricError(f"mean and covariance need at least 2 rows, but there are {self.count}")
        require(0 <= ddof < self.count, "ddof", ddof, f"at least 0 and below the count of {self.count}")
        whole = RunningStatistics(self.dimension, device=self._mean.device)
        whole._join(self._summed, self._mean, self._products)
        whole._block[: self._pending].copy_(self._block[: self._pending])
        whole._pending = self._pending
        whole._settle()
        with torch.inference_mode(False):
            cov = (whole._products + whole._products.T) / (2 * (self.count - ddof))  # symmetric to the bit
        return Statistics(whole._mean, cov, self.count, self.fingerprint, ddof)

    def _settle(self) -> None:
        """Sum the rows of the block."""
        block = self._block[: self._pending]
        if len(block):
            mean = block.mean(dim=0)
            centred = block - mean
            self._join(len(block), mean, centred.T @ centred)
        self._pending = 0

    def _join(self, count: int, mean: Tensor, products: Tensor) -> None:
        """Chan, Golub and LeVeque (1983): the moments of two sets together."""
        if count == 0:
            return
        total = self._summed + count
        difference = mean - self._mean
        self._products.add_(products).addr_(difference, difference, alpha=self._summed * count / total)
        self._mean.add_(difference, alpha=count / total)
        self._summed = total

    def _require_agreement(self, group: dist.ProcessGroup | None, device: torch.device) -> None:
        """Compare a fixed number of digits in all processes, so that a difference hangs none of them."""
        known = b"" if self.fingerprint is None else self.fingerprint.encode()
        mine = torch.tensor([self.dimension, *hashlib.sha256(known).digest()], device=device)
        extremes = torch.stack([mine, -mine])
        dist.all_reduce(extremes, dist.ReduceOp.MAX, group=group)
        differs = (extremes[0] != -extremes[1]).tolist()
        if differs[0]:
            raise DistributedError(f"this process has rows of {self.dimension} values, another one of other length")
        if any(differs):
            raise FingerprintMismatchError(f"this process has rows of the extractor {self.fingerprint!r}, another not")


def _require_fingerprint(fingerprint: str | None) -> None:
    if fingerprint is not None:
        require(isinstance(fingerprint, str), "fingerprint", fingerprint, "text or None", TypeError)
        require(fingerprint.isprintable() and fingerprint != "", "fingerprint", fingerprint, "printable and not empty")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, np.dtype[Any]]:
    """One array of an ``.npz`` file. Its size is believed only as far as the file holds it; no object is made."""
    try:
        member = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"it has no array `{name}`") from None
    with archive.open(member) as stream:
        head = io.BytesIO(stream.read(_LARGEST_HEADER))
        version = np.lib.format.read_magic(head)
        require(version in ((1, 0), (2, 0)), f"the format of {name}", version, "(1, 0) or (2, 0)")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read_header(head)
        rank, kinds, size = {
            "mu": (1, "f", _LARGEST_DIMENSION),
            "sigma": (2, "f", _LARGEST_DIMENSION),
            "fingerprint": (0, "U", 1),
        }.get(name, (0, "iu", 1))
        known = dtype.kind in kinds and 0 < dtype.itemsize <= (8 if kinds != "U" else _LARGEST_HEADER)
        require(known, f"the dtype of {name}", str(dtype), {"f": "float64 or less", "U": "text"}.get(kinds, "whole"))
        require(len(shape) == rank, f"the shape of {name}", shape, f"of {rank} dimensions")
        require(all(0 < side <= size for side in shape), f"the shape of {name}", shape, f"within 1 to {size}")
        needed = math.prod(shape) * dtype.itemsize
        held = member.file_size - head.tell()
        require(held == needed, f"{name}", f"{held} bytes", f"{needed} bytes by its header")
        content = head.read() + stream.read()
    values = np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_columns else "C")
    return np.array(values, dtype=np.float64 if kinds == "f" else None)  # native, writable
