"""A call of the command line, and a run to call it on."""

import shutil
from pathlib import Path

import pytest
from cli_runs import CONFIG, METADATA, Call, Outcome, networks

from ganblocks import cli
from ganblocks.training import CheckpointStore


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: object) -> Outcome:
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:  # argparse
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with two checkpoints, and with what a crash leaves, which the owner's store would clear."""
    directory = tmp_path_factory.mktemp("original") / "run"
    store = CheckpointStore(directory / "checkpoints")
    store.save({"step": networks(CONFIG)}, 1000, {"config": CONFIG.to_dict(), **METADATA})
    store.save({"step": networks(CONFIG)}, 2000, {"config": CONFIG.to_dict(), **METADATA})
    (directory / "checkpoints" / ".tmp-1234567-000000003000").mkdir()
    return directory


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it for each test."""
    return Path(shutil.copytree(original, tmp_path / "run"))
