"""From images to feature vectors: one network, one exact way into it, and a fingerprint that names both.

Two Frechet distances compare only if the features were made in one way: network, weights, size, filter and value
range. `InputSpec` says how bytes become the network's input, and `FeatureExtractor` runs the network under the same
conditions every time: evaluation mode, float32, no autocast, no TF32.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganblocks._checks import require, require_rank
from ganblocks._modes import evaluation_mode
from ganblocks.functional.image_range import to_uint8
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.metrics.rows import require_finite
from ganblocks.metrics.statistics import RunningStatistics

__all__ = ["Extracted", "FeatureExtractor", "Features", "as_bytes", "full_float32"]

_HALF_A_LEVEL = 1 / 255  # in [-1, 1]: what lies this far outside still rounds to byte 0 or 255


class Features(NamedTuple):
    """What a network makes of a batch of images: ``features`` [N, D] and ``logits`` [N, K] or None, in float32."""

    features: Tensor
    logits: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What `FeatureExtractor.extract` kept of a set of images; None is what was not asked for.

    Attributes:
        count: Images.
        fingerprint: That of the extractor, the size of the images and their preparation: features compare only if all
            three are equal.
        statistics: Moments of the features, with this fingerprint.
        rows: Features [count, D], float32 on the CPU.
        logits: [count, K], float32 on the CPU.
    """

    count: int
    fingerprint: str
    statistics: RunningStatistics | None = None
    rows: Tensor | None = None
    logits: Tensor | None = None


class FeatureExtractor:
    """A feature network with its way in, called with images.

    Args:
        network: Takes what ``spec`` prepares and returns features [N, D], alone or as a pair (features, logits [N, K]).
            It is used in evaluation mode, and every submodule gets its own mode back afterwards. It is not copied: if
            its weights change later, so do the features.
        spec: How bytes become its input.
        name: In the fingerprint, for what the weights do not tell: architecture and layer.
        device: Where the network is moved to (itself, as by ``network.to``); ``None`` = it stays where its parameters
            are, on the CPU if it has none.
        dimension: D, if known; ``None`` = found at the first call.

    Raises:
        TypeError: A parameter or buffer is in half precision: features in it are too coarse to compare.
    """

    def __init__(
        self,
        network: nn.Module,
        spec: InputSpec,
        *,
        name: str,
        device: torch.device | str | None = None,
        dimension: int | None = None,
    ) -> None:
        for key, tensor in [*network.named_parameters(), *network.named_buffers()]:
            half = tensor.is_floating_point() and tensor.dtype.itemsize < 4
            require(
                not half, f"network.{key}", tensor.dtype, "float32: use a copy of the network, `.float()`", TypeError
            )
        tensors = [*network.parameters(), *network.buffers()]
        there = tensors[0].device if tensors else torch.device("cpu")
        self.device: torch.device = there if device is None else torch.device(device)
        self.network: nn.Module = network if device is None else network.to(self.device)
        self.spec = spec
        self.name = name
        self._dimension = dimension
        self._fingerprint: str | None = None

    @property
    def dimension(self) -> int | None:
        """Values of a feature vector; None before the first call, unless it was given."""
        return self._dimension

    @property
    def fingerprint(self) -> str:
        """``<name> weights <16 hexadecimal digits> input <spec>``: equal if features may be compared.

        The digits begin the SHA-256 over the names, dtypes, shapes and bytes in the network's state dict; they do not
        depend on process, device or memory format. They are computed once, at the first use, and not again: make a new
        extractor when the weights have changed.

        Raises:
            TypeError: The state dict holds something that is not a tensor.
        """
        if self._fingerprint is None:
            digits = _hash_of(self.network.state_dict())[:16]
            self._fingerprint = f"{self.name} weights {digits} input {self.spec.to_json()}"
        return self._fingerprint

    def fingerprint_of(self, shape: tuple[int, ...], preparation: str = "") -> str:
        """The fingerprint of features that it makes of such images.

        Args:
            shape: ``(C, H, W)`` of the images, before the resize of ``spec``; empty for images of several sizes.
            preparation: How they came to this size.
        """
        size = "x".join(map(str, shape)) if shape else "several sizes of"
        return f"{self.fingerprint} of {size} images" + (f", {preparation}" if preparation else "")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Features:
        """Features of a batch.

        Args:
            images: [N, C, H, W] with C 1 or 3 and N at least 1, on any device: uint8, taken as is, or floating-point in
                [-1, 1], rounded to bytes first, as if saved without loss. What lies outside by more than half a level
                is refused; ``images.clamp(-1, 1)`` is what saving to a file would do.

        Returns:
            float32, on the extractor's device.

        Raises:
            TypeError: Another dtype.
            ValueError: A wrong shape, values outside [-1, 1], or a network that does not return [N, D].
            MetricError: A value of the images, the features or the logits is NaN or infinite.
        """
        pixels = as_bytes(images).to(self.device)
        with evaluation_mode(self.network), full_float32(self.device):
            result = self.network(self.spec.prepare(pixels))
        features, logits = self._checked(result, len(images))
        require_finite(features, f"features of {self.name}")
        if logits is not None:
            require_finite(logits, f"logits of {self.name}")
        if self._dimension is None:
            self._dimension = features.shape[1]
        if self._dimension != features.shape[1]:
            raise ValueError(
                f"the network {self.name} returned {features.shape[1]} values a feature, not {self._dimension}: "
                "set the `size` of its InputSpec, or pool over the whole image"
            )
        return Features(features, logits)

    def extract(
        self,
        batches: Iterable[Tensor],
        *,
        statistics: bool = True,
        rows: bool = False,
        logits: bool = False,
        preparation: str = "",
        progress: Callable[[int], None] | None = None,
    ) -> Extracted:
        """Read a set of images once and keep what is asked for; only rows and logits need memory that grows.

        Args:
            batches: Of images, as for a call; or one such batch. Empty batches are passed over.
            statistics: Keep the moments of the features.
            rows: Keep the features, 4 D bytes an image.
            logits: Keep the logits.
            preparation: How the images came to their size, such as ``"center crop"``; part of the fingerprint.
            progress: Called after each batch with the images read so far.

        Raises:
            TypeError: As for a call.
            ValueError: As for a call; or no image, or logits from a network that gives none.
            MetricError: As for a call.
        """
        moments: RunningStatistics | None = None
        kept_rows: list[Tensor] = []
        kept_logits: list[Tensor] = []
        count, sizes = 0, set[tuple[int, ...]]()
        for batch in [batches] if isinstance(batches, Tensor) else batches:
            require_rank(batch, "batches", 4, 4)
            if len(batch) == 0:
                continue
            found = self(batch)
            sizes.add(tuple(batch.shape[1:]))
            if statistics:
                if moments is None:
                    moments = RunningStatistics(found.features.shape[1])
                moments.update(found.features.cpu())
            if rows:
                kept_rows.append(found.features.cpu())
            if logits:
                if found.logits is None:
                    raise ValueError(f"`logits` is True, but the network {self.name} returns features alone")
                kept_logits.append(found.logits.cpu())
            count += len(batch)
            if progress is not None:
                progress(count)
        require(count > 0, "batches", count, "images, at least one")
        fingerprint = self.fingerprint_of(sizes.pop() if len(sizes) == 1 else (), preparation)
        if moments is not None:
            moments.fingerprint = fingerprint
        return Extracted(
            count=count,
            fingerprint=fingerprint,
            statistics=moments,
            rows=torch.cat(kept_rows) if rows else None,
            logits=torch.cat(kept_logits) if logits else None,
        )

    def __repr__(self) -> str:
        return f"FeatureExtractor({self.name!r}, {self.spec}, device={str(self.device)!r}, dimension={self._dimension})"

    def _checked(self, result: Any, count: int) -> Features:
        """The network's answer as float32 matrices of ``count`` rows."""
        parts: list[Any] = list(result) if isinstance(result, tuple) else [result, None]
        if len(parts) != 2 or not _is_rows(parts[0], count) or not (parts[1] is None or _is_rows(parts[1], count)):
            shapes = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
            raise ValueError(
                f"the network {self.name} returned {shapes} for {count} images, but must return features [N, D], alone "
                "or as a pair (features, logits [N, K]): end it with pooling and flatten(1), or wrap it in a module "
                "that picks these"
            )
        features, logits = parts
        return Features(features.float(), None if logits is None else logits.float())


def _is_rows(part: Any, count: int) -> bool:
    """Whether this is a matrix of ``count`` rows of real floating-point numbers."""
    if not isinstance(part, Tensor) or not part.is_floating_point():
        return False
    return part.dim() == 2 and len(part) == count and part.shape[1] >= 1


def as_bytes(images: Tensor, name: str = "images") -> Tensor:
    """Check a batch of images and round floats to bytes.

    Args:
        images: As for a call of `FeatureExtractor`.
        name: Of the argument, for the messages.

    Raises:
        TypeError: Neither uint8 nor floating-point.
        ValueError: Another shape, no pixel, or values outside [-1, 1] by more than half a level.
        MetricError: A value is NaN or infinite.
    """
    require_rank(images, name, 4, 4)
    require(images.numel() > 0, f"{name}.shape", tuple(images.shape), "at least one image of at least one pixel")
    if images.dtype == torch.uint8:
        return images
    images = images.detach()
    require(images.is_floating_point(), f"{name}.dtype", images.dtype, "uint8, or floating-point in [-1, 1]", TypeError)
    require_finite(images, name)
    low, high = (float(bound) for bound in images.aminmax())
    inside = max(-low, high) <= 1 + _HALF_A_LEVEL
    require(inside, name, (low, high), "in [-1, 1]: rescale it, or clamp what a generator overshoots")
    return to_uint8(images)


def _hash_of(state: Mapping[str, Any]) -> str:
    """SHA-256 over a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key]
        require(isinstance(tensor, Tensor), f"state_dict()[{key!r}]", type(tensor), "a tensor", TypeError)
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """No autocast, and products of float32 numbers in float32, whatever the program allows otherwise.

    Switches that follow one above are left to follow it, so that what is set there later still arrives.
    """
    backends: Any = torch.backends
    switches = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    switches += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    changed: list[tuple[Any, str]] = []
    with ExitStack() as stack:
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            if any(_is_lowered(switch) for switch in switches):
                # From the top: what is still lowered when all above are not has been set itself, and is set back.
                for switch in (backends, backends.cudnn, backends.mkldnn, *switches):
                    if switch is backends or _is_lowered(switch):
                        changed.append((switch, switch.fp32_precision))
                        switch.fp32_precision = "ieee"
            yield
        finally:
            for switch, before in reversed(changed):
                switch.fp32_precision = before


def _is_lowered(switch: Any) -> bool:
    return switch.fp32_precision in ("tf32", "bf16")
