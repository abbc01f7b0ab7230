"""Memory that does not suffice, and images that come too slowly."""

import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ganblocks.data import (
    DatasetBatches,
    ImageFolder,
    MultiResolutionImages,
    ProgressiveBatches,
    TensorBatches,
    read_images,
)
from ganblocks.data.synthetic import Faces
from ganblocks.models.feature_maps import VGG19Features
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.training import Phase, Precision, StepContext, recipes
from troubleshooting_trials.record import Scale, Symptom, Trial

__all__ = ["PeakOfTensors", "SquareImages", "memory", "slow_input", "style_memory"]

MEGABYTE = 2**20


class PeakOfTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made while it is active and alive at once; ``peak`` is the most.

    What an operator uses within itself is not seen. Storages are counted once, whatever looks at them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and count what it made."""
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def memory(scale: Scale) -> Symptom:
    """A ProGAN at 32 pixels with WGAN-GP's penalty: the most that tensors hold during a step."""
    config = ProGANConfig.karras2018(32, latent_dim=32, max_channels=32)
    batch = 16 if scale.share == 1 else 8
    images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def peak(
        count: int = batch,
        precision: str = "fp32",
        side: int = 32,
        weight: float = 10.0,
        recompute_from: int | None = None,
        **options: Any,
    ) -> list[float | None]:
        torch.manual_seed(0)
        recipe = recipes.karras2018(penalty_weight=weight, recompute_from=recompute_from)
        step = recipe.build_step(
            Generator(config),
            Discriminator(config),
            latent_dim=config.latent_dim,
            precision=Precision.resolve(precision, "cpu"),  # type: ignore[arg-type]
            **options,
        )
        shown = torch.nn.functional.avg_pool2d(images[:count].float(), 32 // side).to(torch.uint8)
        phase = Phase(count, 1e-3, resolution=side, stage=0)
        step(shown, None, StepContext(0, 0, phase))  # the optimizer's state is made in the first
        with PeakOfTensors() as seen:
            step(shown, None, StepContext(0, count, phase))
        return [seen.peak / MEGABYTE]

    tried: list[tuple[str, dict[str, Any]]] = [
        ("as it is", {}),
        ("`micro_batch` of a quarter", {"micro_batch": batch // 4}),
        ("`micro_batch` of an eighth", {"micro_batch": batch // 8}),
        ("a quarter of the batch", {"count": batch // 4}),
        ("`Precision` bf16", {"precision": "bf16"}),
        ("bf16 and `micro_batch` of a quarter", {"precision": "bf16", "micro_batch": batch // 4}),
        ("`recompute_from=8`", {"recompute_from": 8}),
        ("`recompute_from=8` and `micro_batch` of a quarter", {"recompute_from": 8, "micro_batch": batch // 4}),
        ("half the side", {"side": 16}),
        ("`penalty_weight=0`", {"weight": 0.0}),
        ("`penalty=None`", {"penalty": None}),
    ]
    return Symptom(
        "memory",
        "Memory does not suffice",
        f"A step of ProGAN at 32x32 (32 channels, WGAN-GP, batch {batch}, float32); bytes of all tensors alive at "
        "once beyond the weights and the optimizers' state, workspace within operators not counted.",
        "peak",
        "lower",
        {"peak": "peak, MiB"},
        {"peak": ".1f"},
        [Trial(name, {"peak": peak(**options)}) for name, options in tried],
    )


def style_memory(scale: Scale) -> Symptom:
    """The gradient of a perceptual loss by the image's pixels, with VGG19's layers, random weights."""
    side = 128 if scale.share == 1 else 32
    layers = [f"block{number}_conv1" for number in range(1, 6)]

    def peak(**options: Any) -> list[float | None]:
        features = VGG19Features(layers, generator=torch.Generator().manual_seed(0), **options)
        pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with PeakOfTensors() as seen:
            found = features(pixels)
            loss = torch.stack([maps.square().mean() for maps in found.values()]).sum()
            torch.autograd.grad(loss, pixels)
        return [seen.peak / MEGABYTE]

    return Symptom(
        "style_memory",
        "Memory does not suffice for a style transfer",
        f"The gradient of five layers of VGG19 (random weights) by the pixels of one image of {side}x{side}; counted "
        "in the same way.",
        "peak",
        "lower",
        {"peak": "peak, MiB"},
        {"peak": ".1f"},
        [
            Trial("as it is", {"peak": peak()}),
            Trial("`recompute=True`", {"peak": peak(recompute=True)}),
        ],
    )


class SquareImages(torch.utils.data.Dataset[Tensor]):
    """The images of a folder as a data set of the ordinary kind: each file is decoded when it is asked for."""

    def __init__(self, folder: str, resolution: int) -> None:
        self.images = ImageFolder(folder)
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 ``[3, R, R]``."""
        return torch.from_numpy(self.images.read(index, self.resolution))


def write_jpegs(folder: Path, count: int, side: int) -> None:
    """Drawn faces as JPEG files; few are drawn, and each is saved several times, for drawing takes longest."""
    drawn = Faces(8)
    pictures = [Image.fromarray(np.ascontiguousarray(drawn.read(i, side).transpose(1, 2, 0))) for i in range(8)]
    for index in range(count):
        pictures[index % 8].save(folder / f"{index:04d}.jpg", quality=90)


def slow_input(scale: Scale) -> Symptom:
    """A folder of large JPEG files, of which a small network wants small squares."""
    count, side, resolution, batch = scale.steps(128), 512 if scale.share == 1 else 64, 64, 32
    repeats = 3 if scale.share == 1 else 1

    def trial(name: str, make: Callable[[], Any]) -> Trial:
        """Three passes, the first batch not counted; what comes before it is the time to begin."""
        started = time.perf_counter()
        stream = make()
        stream.batch(0, batch, resolution)
        values: dict[str, list[float | None]] = {"rate": [], "own": [], "ready": [time.perf_counter() - started]}
        position = batch
        for _ in range(repeats):
            started, spent, first = time.perf_counter(), time.process_time(), position
            while position < first + count:
                stream.batch(position, batch, resolution)
                position += batch
            values["rate"].append((position - first) / (time.perf_counter() - started))
            values["own"].append(1000 * (time.process_time() - spent) / (position - first))
        if hasattr(stream, "close"):
            stream.close()
        return Trial(name, values)

    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch, "jpegs"), Path(scratch, "cache")
        folder.mkdir()
        write_jpegs(folder, count, side)

        def cached() -> ProgressiveBatches:
            return ProgressiveBatches(
                MultiResolutionImages(ImageFolder(folder), resolution=resolution, cache_dir=cache)
            )

        tried: list[tuple[str, Callable[[], Any]]] = [
            ("as it is", lambda: DatasetBatches(SquareImages(str(folder), resolution))),
            ("one worker", lambda: DatasetBatches(SquareImages(str(folder), resolution), workers=1)),
            ("two workers", lambda: DatasetBatches(SquareImages(str(folder), resolution), workers=2)),
            ("`read_images`, `TensorBatches`", lambda: TensorBatches(*read_images(ImageFolder(folder), resolution))),
            ("`MultiResolutionImages`, first run", cached),
            ("the same cache, next run", cached),
        ]
        trials = [trial(name, make) for name, make in tried]
    return Symptom(
        "slow_input",
        "The images come too slowly",
        f"{count} JPEG files of {side}x{side}, squares of {resolution}x{resolution} in batches of {batch}; three "
        "passes each, and the time until the first batch is there. Judged by the CPU time of the training process "
        "itself, for other work ran on this machine of two cores, which the images a second suffer from.",
        "own",
        "lower",
        {"own": "own CPU, ms an image", "rate": "images/s", "ready": "first batch after, s"},
        {"own": ".3f", "rate": ",.0f", "ready": ".2f"},
        trials,
    )
