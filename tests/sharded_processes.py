"""One of several processes that share a set of images: ``python sharded_processes.py RANK WORLD STORE OUT``.

Each takes the images of its rank, computes the scores of the whole, and writes them to ``OUT/<rank>.json``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganblocks.errors import DistributedError
from ganblocks.metrics.evaluation import Evaluation, evaluate
from ganblocks.metrics.features import FeatureExtractor, Features
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.metrics.sharding import gather_rows, largest_of_all

COUNTS = {"real": 7, "fake": 6, "held_out": 5}
METRICS = ("fd", "kid", "is", "prdc", "swd", "ms_ssim", "memorisation")
OPTIONS: dict[str, dict[str, Any]] = {
    "kid": {"num_subsets": 5, "subset_size": 4},
    "is": {"splits": 2},
    "prdc": {"nearest_k": 2},
    "swd": {"num_directions": 8, "patches_per_image": 4},
    "ms_ssim": {"num_pairs": 5},
}


class Means(nn.Module):
    """Four features, from the means of the quarters of an image, and two logits."""

    def forward(self, images: Tensor) -> Features:
        """[N, 3, 16, 16] to features [N, 4]; elementwise in float64 until the end, so batches do not matter."""
        quarters = images.double().mean(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(3, 4)).flatten(1)
        features = (quarters * torch.tensor([1.0, 2.0, 3.0, 4.0])).float()
        return Features(features, features[:, :2] * 3)


def image_sets() -> dict[str, Tensor]:
    """The whole sets, as bytes [N, 3, 16, 16]."""
    generator = torch.Generator().manual_seed(1)
    return {
        kind: torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        for kind, count in COUNTS.items()
    }


def scores(sets: dict[str, Tensor], *, sharded: bool) -> Evaluation:
    """All metrics of these sets."""
    spec = InputSpec(size=None, image_channels=3, value_range=(-1.0, 1.0))
    return evaluate(
        sets["real"],
        sets["fake"],
        METRICS,
        extractor=FeatureExtractor(Means(), spec, name="means"),
        held_out=sets["held_out"],
        options=OPTIONS,
        batch_size=2,
        sharded=sharded,
    )


def main(rank: int, world: int, store: str, out: str) -> None:
    """Join the others, compute, write."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    found: dict[str, Any] = {}
    shares = {kind: images[rank::world] for kind, images in image_sets().items()}
    found["scores"] = scores(shares, sharded=True).to_dict()
    found["one"] = gather_rows(torch.arange(1)[rank : rank + 1] + 5).tolist()  # every rank but the first has none
    found["nothing"] = gather_rows(torch.empty(0, 3)).shape
    found["pairs"] = gather_rows(torch.arange(rank, 2 * world + 1, world)[:, None].repeat(1, 2)).tolist()
    found["largest"] = largest_of_all(10 * rank)
    try:
        gather_rows(torch.zeros(1 if rank else 0, 2))
    except DistributedError as error:
        found["refused"] = str(error)
    try:
        gather_rows(torch.zeros(1, 2 + rank))
    except DistributedError as error:
        found["refused shape"] = str(error)
    dist.barrier()
    dist.destroy_process_group()
    Path(out, f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
