"""``ganblocks evaluate`` on real files: the scores are those of the library, and awkward files are told of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_runs import Call, Outcome
from PIL import Image

from ganblocks.cli import evaluate as command
from ganblocks.cli.extractors import open_extractor
from ganblocks.data import ImageFolder
from ganblocks.data.image_stream import ImageStream
from ganblocks.metrics import Score, evaluate, random_extractor

QUICK = ("--most", 12, "--batch-size", 5)
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore::ganblocks.errors.SmallSampleWarning")  # a dozen images are few


def write(folder: Path, count: int, seed: int, size: tuple[int, int] = (16, 16), suffix: str = "png") -> Path:
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (count, size[1], size[0], 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{seed}_{number:03d}.{suffix}")
    return folder


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return write(tmp_path / "real", 14, 1)


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    return write(tmp_path / "fake", 9, 2)


@pytest.fixture(autouse=True)
def few_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller random network than the default, for speed and so that a dozen images are enough of a sample."""
    from ganblocks.cli import extractors

    monkeypatch.setattr(
        extractors, "random_extractor", lambda channels, device: random_extractor(channels, dimension=16, size=16)
    )


def tensors(folder: Path, resolution: int = 16) -> torch.Tensor:
    return torch.cat(list(ImageStream(ImageFolder(folder), resolution)))


def document(outcome: Outcome) -> dict[str, Any]:
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_the_scores_are_those_of_the_library(call: Call, real: Path, fake: Path, tmp_path: Path) -> None:
    held_out = write(tmp_path / "held_out", 8, 3)
    asked = ("fd", "kid", "prdc", "ms-ssim", "memorisation")
    outcome = call(
        "evaluate", "--real", real, "--fake", fake, "--held-out", held_out, "--metrics", ",".join(asked), "--seed", 3,
        "--json", "-",
    )  # fmt: skip
    found = document(outcome)
    extractor = random_extractor(dimension=16, size=16)
    expected = evaluate(
        tensors(real),
        tensors(fake),
        ("fd", "kid", "prdc", "ms_ssim", "memorisation"),
        extractor=extractor,
        held_out=tensors(held_out),
        seed=3,
        preparation="center crop",
    )
    assert found["scores"] == expected.to_dict()
    assert found["extractor"] == extractor.fingerprint
    assert (found["resolution"], found["channels"], found["seed"]) == (16, 3, 3)
    assert [found[kind]["images"] for kind in ("real", "fake", "held_out")] == [14, 9, 8]


def test_a_table_is_printed_and_json_written(call: Call, real: Path, fake: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "scores.json"
    outcome = call("evaluate", "--real", real, "--fake", fake, "--metrics", "fd,prdc", "--json", file)
    scores = [Score.from_dict(score) for score in json.loads(file.read_text())["scores"]]
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines] == ["score", *(score.name for score in scores)]
    assert all(score.fingerprint in line for score, line in zip(scores, lines[1:], strict=True))


def test_twice_gives_the_same_bytes(call: Call, real: Path, run: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("a.json", "b.json"):
        call("evaluate", "--real", real, "--run", run, "--metrics", "fd,kid", *QUICK, "--json", tmp_path / name)
        texts.append((tmp_path / name).read_bytes())
    assert texts[0] == texts[1]
    assert texts[0]


def test_a_run_is_sampled_at_its_own_size(call: Call, real: Path, run: Path) -> None:
    found = document(call("evaluate", "--real", real, "--run", run, "--metrics", "fd", "--count", 20, "--json", "-"))
    assert found["resolution"] == 8
    assert found["fake"]["images"] == 20
    samples = torch.cat(list(command.TrainedGenerator(run, CPU).pictures(20, seed=0)))
    extractor = random_extractor(dimension=16, size=16)
    expected = evaluate(tensors(real, 8), samples, ["fd"], extractor=extractor, preparation="center crop")
    assert found["scores"] == expected.to_dict()


def test_a_run_makes_as_many_images_as_there_are_reals(call: Call, real: Path, run: Path) -> None:
    found = document(call("evaluate", "--real", real, "--run", run, "--metrics", "ms_ssim", "--json", "-"))
    assert found["fake"]["images"] == 14
    assert found["extractor"] is None


def test_different_sizes_are_not_chosen_from_in_silence(call: Call, real: Path, fake: Path) -> None:
    write(fake, 2, 5, size=(24, 20))
    refused = call("evaluate", "--real", real, "--fake", fake, "--metrics", "fd")
    assert refused.code == 2
    assert "2 different sizes, from 16x16 to 24x20: say `--resolution`" in refused.err
    told = ("--metrics", "fd", "--resolution", 12, "--json", "-")
    found = document(call("evaluate", "--real", real, "--fake", fake, *told))
    assert found["resolution"] == 12
    assert found["fake"]["images"] == 11


def test_a_truncated_file_stops_it_or_is_left_out_and_named(call: Call, real: Path, fake: Path) -> None:
    broken = fake / "2_004.png"
    broken.write_bytes(broken.read_bytes()[:-300])
    stopped = call("evaluate", "--real", real, "--fake", fake, "--metrics", "fd")
    assert stopped.code == 2
    assert "2_004.png" in stopped.err
    assert "--skip-damaged leaves such files out" in stopped.err
    asked = ("--metrics", "fd", "--skip-damaged", "--json", "-")
    outcome = call("evaluate", "--real", real, "--fake", fake, *asked)
    found = document(outcome)
    assert list(found["fake"]["skipped"]) == ["2_004.png"]
    assert found["fake"]["images"] == 8
    assert found["scores"][0]["counts"] == {"real": 14, "fake": 8}
    assert "left out of fake: 2_004.png" in outcome.err
    broken.unlink()
    without = document(call("evaluate", "--real", real, "--fake", fake, *asked))
    assert without["scores"] == found["scores"]


def test_a_sixteen_bit_image_is_its_upper_half_by_the_rule_of_the_data(call: Call, real: Path, fake: Path) -> None:
    wide = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(wide).save(fake / "wide.png")
    asked = ("evaluate", "--real", real, "--fake", fake, "--metrics", "fd", "--json", "-")
    found = document(call(*asked))
    Image.fromarray((wide // 257).astype(np.uint8)).save(fake / "wide.png")
    assert document(call(*asked))["scores"] == found["scores"]


def test_a_mixture_of_formats_warns(call: Call, real: Path, fake: Path) -> None:
    write(fake, 1, 6, suffix="jpg")
    outcome = call("evaluate", "--real", real, "--fake", fake, "--metrics", "fd", "--json", "-")
    assert "1 of 10 images are compressed with loss" in outcome.err
    assert any("compressed" in message for message in document(outcome)["warnings"])


def test_grey_images_are_asked_for_by_channels(call: Call, real: Path, fake: Path) -> None:
    asked = ("--metrics", "fd", "--channels", 1, "--json", "-")
    found = document(call("evaluate", "--real", real, "--fake", fake, *asked))
    grey = [torch.cat(list(ImageStream(ImageFolder(path, image_channels=1), 16))) for path in (real, fake)]
    extractor = random_extractor(1, dimension=16, size=16)
    expected = evaluate(*grey, ["fd"], extractor=extractor, preparation="center crop")
    assert found["scores"] == expected.to_dict()
    refused = call("evaluate", "--real", real, "--fake", fake, "--real-count", 5)
    assert "--real-count is for statistics" in refused.err


def test_statistics_stand_for_the_real_images(call: Call, real: Path, fake: Path, tmp_path: Path) -> None:
    asked = ("--fake", fake, "--metrics", "fd", "--json", "-")
    expected = document(call("evaluate", "--real", real, *asked))["scores"]
    extractor = open_extractor("random", image_channels=3, device=CPU)
    running = extractor.extract([tensors(real)], preparation="center crop").statistics
    assert running is not None
    running.compute().save(tmp_path / "real.npz")
    assert document(call("evaluate", "--real", tmp_path / "real.npz", *asked))["scores"] == expected

    plain = running.compute()
    np.savez(tmp_path / "plain.npz", mu=plain.mean.numpy(), sigma=plain.cov.numpy())
    refused = call("evaluate", "--real", tmp_path / "plain.npz", *asked)
    assert refused.code == 2
    assert "count" in refused.err
    found = document(call("evaluate", "--real", tmp_path / "plain.npz", "--real-count", 14, *asked))
    assert found["scores"] == expected
    other = call("evaluate", "--real", tmp_path / "real.npz", *asked, "--resolution", 12)
    assert other.code == 2
    assert "FingerprintMismatchError" in other.err
    assert "3x16x16 images" in other.err


def test_a_random_choice_of_a_large_set_is_that_of_the_seed(call: Call, real: Path, fake: Path) -> None:
    asked = ("evaluate", "--real", real, "--fake", fake, "--metrics", "fd", "--json", "-", "--most", 7)
    first, again, other = (document(call(*asked, "--seed", seed)) for seed in (1, 1, 2))
    assert first["scores"][0]["counts"] == {"real": 7, "fake": 7}
    assert first == again
    assert first["scores"][0]["value"] != other["scores"][0]["value"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--metrics", "fid"), "must be some of fd,kid"),
        (("--metrics", ","), "must be some of"),
        (("--metrics", "memorisation"), "memorisation needs --held-out"),
        (("--extractor", "best"), "must be one of random, inception=FILE"),
        (("--extractor", "random=x"), "must be one of random"),
        (("--extractor", "vgg16=nowhere.safetensors"), "nowhere.safetensors"),
        (("--extractor", "classifier=nowhere"), "nowhere"),
        (("--extractor", "inception=nowhere.pth"), "nowhere.pth does not exist"),
        (("--device", "abacus"), "--device is abacus"),
        (("--run", "x"), "either --fake PATH or --run DIR"),
    ],
)
def test_mistakes_are_named(call: Call, real: Path, fake: Path, changes: tuple[str, ...], message: str) -> None:
    outcome = call("evaluate", "--real", real, "--fake", fake, *changes)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())


def test_missing_folders_are_named(call: Call, real: Path, fake: Path, tmp_path: Path) -> None:
    assert "nowhere' does not exist" in call("evaluate", "--real", tmp_path / "nowhere", "--fake", fake).err
    assert "nowhere' does not exist" in call("evaluate", "--real", real, "--fake", tmp_path / "nowhere").err
    assert "either --fake PATH or --run DIR" in call("evaluate", "--real", real).err


def test_a_run_of_another_size_is_refused(call: Call, real: Path, run: Path) -> None:
    outcome = call("evaluate", "--real", real, "--run", run, "--resolution", 16)
    assert outcome.code == 2
    assert "the run makes 8x8" in outcome.err
    assert "the run makes images of 3" in call("evaluate", "--real", real, "--run", run, "--channels", 1).err


def test_warnings_are_told_once_and_also_when_it_fails(call: Call, real: Path, fake: Path) -> None:
    write(fake, 1, 6, suffix="jpg")
    (fake / "2_004.png").write_bytes(b"no image")
    outcome = call("evaluate", "--real", real, "--fake", fake, "--metrics", "fd", "--resolution", 8)
    assert outcome.code == 2
    assert outcome.err.count("compressed with loss") == 1
