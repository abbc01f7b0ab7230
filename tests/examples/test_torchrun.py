"""Every example that trains one network runs in several processes, by the command that torchrun has for that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHORT = {
    "autoencoder_fashion_mnist": ["--epochs", "1"],
    "classifier_mnist": ["--epochs", "1", "--channels", "4"],
    "denoising_autoencoder_fashion_mnist": ["--epochs", "1"],
    "progan_celeba": ["--images-per-stage", "32", "--max-channels", "8"],
    "stacked_autoencoder_mnist": ["--pretrain-epochs", "1", "--epochs", "1"],
    "vae_fashion_mnist": ["--epochs", "1"],
}
"""What makes a trial of an example that has no ``--smoke``."""
ALONE = {  # these train dozens of small networks one after the other, or none
    "artist_classifier", "artist_comparison", "artist_fine_tuning", "artists_overview",
    "augmented_classifier_brain_mri", "augmented_classifier_mnist", "painting_preprocessing", "similar_paintings",
    "style_transfer",
}  # fmt: skip
EXAMPLES = sorted(
    path for path in (Path(__file__).resolve().parents[2] / "examples").glob("*.py") if path.stem not in ALONE
)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_a_trial_run_in_two_processes_ends_well_and_is_written_once(example: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("GANBLOCKS_DATA", None)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(example)]
    command += [*SHORT.get(example.stem, ["--smoke"]), "--device", "cpu", "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=560, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    lines = ended.stdout.splitlines()
    last = [line for line in lines if "See " in line or "images in " in line]
    assert last, lines
    assert len(last) == len(set(last))  # only one of them speaks
    assert not list(tmp_path.glob("run-*"))
    assert list(tmp_path.glob("run/**/config.json"))
