"""A card says what is known, that the rest is not, and how to load the model, in code that runs."""

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import CASES, LARGE_CASES, arguments, tiny_model

from ganblocks.models.model_card import ModelCard
from ganblocks.models.sharing import read_description, save_pretrained

STATED = {
    "title": "Digits, small",
    "summary": "For the tests.",
    "data": "8,000 drawn digits",
    "evaluation": "| FID | 12.5 |\n|---|---|",
    "limits": "Knows no letters",
    "licence": "Apache-2.0",
}


def card_of(directory: Path, case: str = "classifier", card: Any = None, **options: Any) -> str:
    return (save_pretrained(tiny_model(case), directory, card=card, **options) / "README.md").read_text(
        encoding="utf-8"
    )


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


def code(text: str) -> str:
    """The Python in it."""
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return str(block)


def test_what_the_caller_states_stands_in_its_section(tmp_path: Path) -> None:
    for index, card in enumerate((ModelCard(**STATED), STATED)):
        text = card_of(tmp_path / str(index), card=card)
        found = sections(text)
        assert "\n# Digits, small\n\nFor the tests.\n" in text
        assert found["Data"] == STATED["data"]
        assert found["Evaluation"] == STATED["evaluation"]
        assert found["Limits"] == STATED["limits"]
        assert found["Licence"] == STATED["licence"]
        assert "Not stated." not in text


def test_what_is_not_stated_is_said_to_be_so(tmp_path: Path) -> None:
    text = card_of(tmp_path)
    found = sections(text)
    assert "\n# classifier\n" in text
    assert [title for title, content in found.items() if content == "Not stated."] == [
        *("Data", "Evaluation", "Limits", "Licence")
    ]
    assert "Further information" not in found
    assert sections(card_of(tmp_path / "b", card={"data": " \n"}))["Data"] == "Not stated."


def test_architecture_size_and_hash_are_those_of_the_files(tmp_path: Path) -> None:
    metadata = {"classes": ["a", "b", "c"]}
    found = sections(card_of(tmp_path, metadata=metadata))
    described = read_description(tmp_path)
    weights = tmp_path / "model.safetensors"
    assert json.loads(found["Configuration"].split("```json")[1].strip("`")) == described["config"]
    assert found["Configuration"].startswith("`ClassifierConfig`")
    count = sum(parameter.numel() for parameter in tiny_model("classifier").parameters())
    assert found["Parameters"].startswith(f"{count:,} parameters, float32.")
    assert f"{weights.stat().st_size:,} bytes, SHA-256 `{described['weights']['sha256']}`" in found["Parameters"]
    assert json.loads(found["Further information"].removeprefix("```json").strip("`")) == metadata
    assert "LeCun" in found["What it is"]  # the paper, from the module
    assert "Each block is a 3x3 convolution" in found["What it is"]
    assert "`ganblocks.models.classifier.SmallClassifier`, named `classifier` in files" in found["What it is"]
    wanted = "Images ``[N, image_channels, resolution, resolution]`` in [-1, 1] to logits ``[N, num_classes]``."
    assert found["What goes in and comes out"] == wanted


@pytest.mark.parametrize("case", [case for case in CASES if case not in LARGE_CASES])
def test_the_lines_that_load_the_model_run(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = code(card_of(tmp_path / 'a "model"', case))
    assert len([line for line in lines.splitlines() if line]) == 3
    model = tiny_model(case)
    first = next(iter(inspect.signature(model.forward).parameters))
    space: dict[str, Any] = {first: arguments(case, count=16)[0], "labels": torch.arange(16) % 3}
    exec(compile(lines, "card", "exec"), space)
    assert type(space["model"]) is type(model)
    assert len(space["images"] if hasattr(model, "sample") else space["outputs"]) == 16


@pytest.mark.parametrize(
    ("licence", "line"),
    [
        ("Apache-2.0", 'license: "apache-2.0"'),
        ("CC BY 4.0", None),
        ("mit\ntags: [x]", None),
        (None, None),
        ("no", 'license: "no"'),
    ],
)
def test_only_an_identifier_goes_into_the_head(licence: str | None, line: str | None, tmp_path: Path) -> None:
    text = card_of(tmp_path, card={"licence": licence})
    head = text.split("---\n")[1].splitlines()
    assert head == ["library_name: ganblocks", *([line] if line else []), "tags:", "- pytorch", "- classifier"]
    assert text.startswith("---\n")


@pytest.mark.parametrize("card", [3, "text", {"data": 3}, {"licence": ["mit"]}])
def test_a_card_of_another_kind_is_refused(card: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"`(card|data|licence)` is a (int|str|list)"):
        card_of(tmp_path / "m", card=card)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("card", [{"license": "mit"}, {"title": "two\nlines"}, {"title": ""}])
def test_an_unknown_field_or_a_title_of_two_lines_is_refused(card: Mapping[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fields of ModelCard: title, summary, data, .*licence|one line"):
        card_of(tmp_path / "m", card=card)
    assert not (tmp_path / "m").exists()


def test_a_card_is_given_as_one_as_its_fields_or_not_at_all() -> None:
    assert [field.name for field in dataclasses.fields(ModelCard)] == list(STATED)
    assert ModelCard.of(ModelCard(**STATED)) == ModelCard(**STATED)
    assert ModelCard.of(None) == ModelCard()
    assert ModelCard.of(STATED) == ModelCard(**STATED)
