"""The climate of every test: one thread, a fixed seed, no surprises from the environment."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
if torch.cuda.device_count() == 0:
    # Triton, not imported yet, then runs kernels on CPU tensors; ours are asked to by the tests of the kernels only.
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
)
settings.register_profile("nightly", deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same global random state, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets, or a skip that says how to provide it."""
    root = os.environ.get("GANBLOCKS_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("GANBLOCKS_DATA does not name a folder with the real data sets")
    return Path(root)
