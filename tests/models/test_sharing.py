"""A saved model is the one that comes back, and nothing else does."""

import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from tiny_models import CASES, arguments, tiny_model
from torch import Tensor, nn

import ganblocks.models
from ganblocks.errors import CheckpointCorruptError, CheckpointError, NonFiniteError
from ganblocks.models.classifier import SmallClassifier
from ganblocks.models.config import ModelConfig
from ganblocks.models.registry import MODELS, load_classifier
from ganblocks.models.sharing import from_hub, from_pretrained, read_description, save_pretrained
from ganblocks.models.two_head_classifier import TwoHeadClassifier

FILES = ["README.md", "config.json", "model.safetensors"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A saved classifier."""
    return save_pretrained(tiny_model("classifier"), tmp_path / "model", metadata={"classes": ["a", "b", "c"]})


def edit(saved: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what ``config.json`` says."""
    document = json.loads((saved / "config.json").read_text())
    change(document)
    (saved / "config.json").write_text(json.dumps(document))


def replace_weights(saved: Path, weights: dict[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Put other weights there, with the size and the hash that belong to them."""
    with safetensors.safe_open(saved / "model.safetensors", "pt") as file:
        kept = file.metadata()
    content = safetensors.torch.save(weights, {**kept, **(about or {})})
    (saved / "model.safetensors").write_bytes(content)
    told = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(saved, lambda document: document["weights"].update(told))


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def assert_same_numbers(found: nn.Module, wanted: nn.Module) -> None:
    """Weights and all buffers, those included that no file holds."""
    for ours, theirs in (
        (found.state_dict(), wanted.state_dict()),
        (dict(found.named_buffers()), dict(wanted.named_buffers())),
    ):
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in theirs)


def test_every_model_is_tried() -> None:
    assert {case.name for case in CASES.values()} == MODELS.keys()


def test_every_public_model_with_a_configuration_has_a_name_in_files() -> None:
    modules = [
        importlib.import_module(f"ganblocks.models.{m.name}") for m in pkgutil.iter_modules(ganblocks.models.__path__)
    ]
    public = [getattr(module, name) for module in modules for name in module.__all__]
    classes = {thing for thing in public if inspect.isclass(thing)}
    configs = {kind for kind in classes if issubclass(kind, ModelConfig)} - {ModelConfig}
    assert configs == {config for config, _ in MODELS.values()}
    models = {
        kind
        for kind in classes
        if issubclass(kind, nn.Module)
        and any(parameter.annotation in configs for parameter in inspect.signature(kind).parameters.values())
    }
    parts = {ganblocks.models.vae.Encoder, ganblocks.models.vae.Decoder}  # of a VAE, which is saved as a whole
    named = {build for _, build in MODELS.values() if inspect.isclass(build)}
    assert models - parts == named
    assert type(tiny_model("two_head_classifier")) is TwoHeadClassifier  # takes a classifier, not a configuration


@pytest.mark.parametrize("case", CASES)
def test_a_model_comes_back_bit_for_bit(case: str, tmp_path: Path) -> None:
    if case in ("backbone_classifier", "pooled_classifier"):
        pytest.importorskip("torchvision")
    model = tiny_model(case)
    assert save_pretrained(model, tmp_path / "deep" / "saved") == tmp_path / "deep" / "saved"
    assert sorted(os.listdir(tmp_path / "deep" / "saved")) == FILES
    state = torch.get_rng_state()
    loaded = from_pretrained(tmp_path / "deep" / "saved", name=CASES[case].name)
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert not any(module.training for module in loaded.modules())
    assert_same_numbers(loaded, model)
    assert [p.requires_grad for p in loaded.parameters()] == [True for _ in model.parameters()]
    for method in CASES[case].calls:
        inputs = arguments(case, method)
        with torch.no_grad():
            found, wanted = (getattr(m, method)(*inputs) for m in (loaded, model))
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_generator_and_discriminator_of_one_configuration_are_told_apart(tmp_path: Path) -> None:
    save_pretrained(tiny_model("progan_discriminator"), tmp_path / "d")
    with pytest.raises(
        CheckpointError, match=r"d/config.json describes the model 'progan_discriminator', but wanted is"
    ):
        from_pretrained(tmp_path / "d", name="progan")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_keeps_it(dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model("vgg_classifier" if dtype == torch.bfloat16 else "classifier").to(dtype)
    save_pretrained(model, tmp_path / "m")
    loaded = from_pretrained(tmp_path / "m")
    assert read_description(tmp_path / "m")["dtype"] == str(dtype).removeprefix("torch.")
    assert_same_numbers(loaded, model)


def test_a_loaded_model_can_be_trained_on(saved: Path) -> None:
    model, before = from_pretrained(saved).train(), from_pretrained(saved)
    model(torch.rand(4, 1, 8, 8)).square().sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    moved = [not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    assert moved.count(True) >= len(moved) - 1


def test_layout_in_memory_does_not_matter(tmp_path: Path) -> None:
    model = tiny_model("conv_denoiser").to(memory_format=torch.channels_last)
    save_pretrained(model, tmp_path / "m")
    loaded = from_pretrained(tmp_path / "m").state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in model.state_dict().items())
    assert all(tensor.is_contiguous() for tensor in loaded.values())


def test_the_description_tells_what_was_saved(saved: Path) -> None:
    content = (saved / "model.safetensors").read_bytes()
    assert read_description(saved) == {
        "format": "ganblocks.model",
        "schema": 1,
        "ganblocks": ganblocks.__version__,
        "torch": str(torch.__version__),
        "model": "classifier",
        "config": CASES["classifier"].config.to_dict(),
        "dtype": "float32",
        "parameters": sum(parameter.numel() for parameter in tiny_model("classifier").parameters()),
        "weights": {"file": "model.safetensors", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        "metadata": {"classes": ["a", "b", "c"]},
    }


def test_what_reads_the_classifier_of_a_run_reads_a_shared_one(saved: Path) -> None:
    found, wanted = load_classifier(saved / "model.safetensors"), from_pretrained(saved)
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(found(images), wanted(images))


def test_a_newer_version_of_a_model_takes_its_place(tmp_path: Path) -> None:
    model = tiny_model("classifier")
    save_pretrained(model, tmp_path)
    (tmp_path / ".gitattributes").write_text("what a hub puts there is nobody's business")
    other = tiny_model("classifier")
    save_pretrained(other, tmp_path, card={"data": "drawn"})
    assert sorted(os.listdir(tmp_path)) == [".gitattributes", *FILES]
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(from_pretrained(tmp_path)(images), other(images))
    assert not torch.equal(model(images), other(images))
    assert "drawn" in (tmp_path / "README.md").read_text()


# What may not be saved, and where nothing may be


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("notes.txt", "notes.txt"),
        ("README.md", "there is no file"),
        ("config.json", "its format is not"),
        ("model.safetensors", "no file"),
    ],
)
def test_a_directory_in_use_is_left_alone(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / file).write_text('{"model_type": "bert"}')
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=f"holds something else.*{words}"):
        save_pretrained(tiny_model("classifier"), tmp_path)
    assert contents(tmp_path) == before


def test_neither_another_model_nor_a_file_is_overwritten(saved: Path, tmp_path: Path) -> None:
    before = contents(saved)
    with pytest.raises(CheckpointError, match="holds the model 'classifier', and this one is 'painting_mlp'"):
        save_pretrained(tiny_model("painting_mlp"), saved)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="is no directory"):
        save_pretrained(tiny_model("classifier"), tmp_path / "file")
    (saved / "README.md").unlink()
    (saved / "README.md").mkdir()
    with pytest.raises(CheckpointError, match=r"something else \(README.md\)"):
        save_pretrained(tiny_model("classifier"), saved)
    (saved / "README.md").rmdir()
    assert contents(saved) == {name: content for name, content in before.items() if name != "README.md"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_saved(value: float, tmp_path: Path) -> None:
    model = tiny_model("classifier")
    model.get_buffer("norm.running_var")[1] = value
    with pytest.raises(NonFiniteError, match=r"norm\.running_var holds 1 values"):
        save_pretrained(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


class Descendant(SmallClassifier):
    """Might compute anything."""


def test_what_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    config: Any = CASES["classifier"].config
    for stranger in (nn.Linear(2, 2), Descendant(config), nn.DataParallel(SmallClassifier(config))):
        with pytest.raises(TypeError, match=r"must be a model of this library, without a wrapper: .*progan"):
            save_pretrained(stranger, tmp_path / "m")
    changed = SmallClassifier(config)
    changed.head = nn.Linear(4, 7)
    with pytest.raises(ValueError, match=r"2 of another kind: head.weight \(\(7, 4\), 'F32'\) for \(\(3, 4\), 'F32'\)"):
        save_pretrained(changed, tmp_path / "m")
    mixed = SmallClassifier(config)
    mixed.head.double()
    with pytest.raises(ValueError, match="2 of another kind"):
        save_pretrained(mixed, tmp_path / "m")
    with pytest.raises(ValueError, match="cannot be built by its configuration"):
        save_pretrained(TwoHeadClassifier(SmallClassifier(config), 2, name="r3gan"), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("metadata", [{"a": float("nan")}, {"a": (1, 2)}, {1: "a"}, {"a": torch.zeros(1)}])
def test_metadata_that_json_cannot_hold_are_refused(metadata: dict[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="`metadata` must be plain JSON"):
        save_pretrained(tiny_model("classifier"), tmp_path / "m", metadata=metadata)
    with pytest.raises(ValueError, match="`metadata` is"):
        save_pretrained(tiny_model("classifier"), tmp_path / "m", metadata={"a": "b" * 2**18})
    assert not (tmp_path / "m").exists()


# Nothing half-written


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_write_that_fails_leaves_the_old_model(failing: int, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls = contents(saved), []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_pretrained(tiny_model("classifier"), saved)
    assert contents(saved) == before


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_mixture_of_two_models_is_noticed(file: str, saved: Path, tmp_path: Path) -> None:
    other = save_pretrained(tiny_model("classifier"), tmp_path / "other")
    (saved / file).write_bytes((other / file).read_bytes())
    with pytest.raises(CheckpointCorruptError, match=r"model.safetensors has other content than was saved \(SHA-256\)"):
        from_pretrained(saved)


# Files that are missing, damaged, or somebody else's


def test_a_missing_directory_or_file_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no directory .*nowhere$"):
        from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"from_hub\('owner/name', revision=..., sha256=...\)"):
        from_pretrained("owner/name")
    for file in ("model.safetensors", "config.json"):
        (saved / file).rename(tmp_path / "aside")
        with pytest.raises(CheckpointError, match=f"there is no file .*{file}"):
            from_pretrained(saved)
        if hasattr(os, "mkfifo"):
            os.mkfifo(saved / file)
            with pytest.raises(CheckpointError, match=f"{file} is no regular file"):
                from_pretrained(saved)
            (saved / file).unlink()
        (tmp_path / "aside").rename(saved / file)
    assert isinstance(from_pretrained(saved), SmallClassifier)


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_weights_are_named_by_their_size(cut: int, saved: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[:cut])
    with pytest.raises(CheckpointCorruptError, match=r"model.safetensors has [\d,]+ bytes, but \d+ were saved"):
        from_pretrained(saved)
    edit(saved, lambda document: document["weights"].update(size=len(whole[:cut])))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        from_pretrained(saved)


def test_any_flipped_bit_of_the_weights_is_noticed(saved: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    for place in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (saved / "model.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            from_pretrained(saved)


def test_a_flipped_bit_of_the_description_is_noticed_or_changes_nothing(saved: Path) -> None:
    whole, images = (saved / "config.json").read_bytes(), torch.rand(2, 1, 8, 8)
    wanted, refused = from_pretrained(saved)(images), 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 7
        (saved / "config.json").write_bytes(damaged)
        try:
            found = from_pretrained(saved)
        except CheckpointError as error:
            refused += saved.name in str(error)
        else:  # a letter of a version, of the metadata, or a space
            assert torch.equal(found(images), wanted)
            refused += 1
    assert refused == len(range(0, len(whole), 5))


class Marker:
    """What a pickle of it would do on being read: leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_in_the_place_of_weights_is_not_opened(saved: Path, tmp_path: Path) -> None:
    torch.save({"head.weight": Marker(tmp_path / "ran")}, saved / "model.safetensors")
    size = (saved / "model.safetensors").stat().st_size
    edit(saved, lambda document: document["weights"].update(size=size))
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        from_pretrained(saved)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 5000, "\xff", '{"format": NaN}', '{"a": 1, "a": 1}', " " * 2**18 + "{}"]
)
def test_a_description_that_is_no_json_is_named(text: str, saved: Path) -> None:
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "pt"}, "its format is not"),
        ({"schema": 2, "ganblocks": "9.0"}, r"newer ganblocks \(9.0, schema 2\).*up to schema 1: upgrade"),
        ({"schema": 0}, "the schema is 0"),
        ({"schema": True}, "the schema is True"),
        ({"schema": "1"}, "the schema is '1'"),
        ({"comment": "hello"}, r"unknown are \['comment'\]"),
        ({"metadata": None}, "'metadata' is None, but must be of type dict"),
        ({"parameters": 1.5}, "'parameters' is 1.5"),
        ({"dtype": "int64"}, "the dtype is 'int64', but must be one of float16, bfloat16, float32, float64"),
        ({"weights": {"file": "../model.safetensors", "size": 1, "sha256": "0" * 64}}, "must be `file` model"),
        ({"weights": {"file": "model.safetensors", "size": 1, "sha256": "0"}}, "must be `file` model"),
        ({"weights": {"file": "model.safetensors"}}, "must be `file` model"),
        ({"model": "os.system"}, "the model is 'os.system'"),
        ({"model": "painting_mlp"}, "unexpected|does not fit"),
        ({"config": {"depth": 3}}, "depth"),
        ({"config": {"channels": 3}}, "does not fit the model 'classifier'"),
        ({"dtype": "float64"}, r"of another kind: .*'F32'\) for .*'F64'"),
    ],
)  # fmt: skip
def test_a_description_of_something_else_is_told(change: dict[str, Any], words: str, saved: Path) -> None:
    edit(saved, lambda document: document.update(change))
    with pytest.raises(CheckpointError, match=f"(?s)(config.json|model.safetensors).*({words})"):
        from_pretrained(saved)


def test_a_description_without_a_field_is_told(saved: Path) -> None:
    edit(saved, lambda document: document.pop("dtype"))
    with pytest.raises(CheckpointError, match=r"config.json: missing are \['dtype'\]"):
        read_description(saved)


def test_a_list_that_is_no_description_is_told(saved: Path) -> None:
    (saved / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"config\.json does not describe a model"):
        read_description(saved)


@pytest.mark.parametrize("case", ["progan", "classifier", "dense_autoencoder"])
def test_a_giant_costs_nothing_before_its_weights_confirm_it(case: str, tmp_path: Path) -> None:
    save_pretrained(tiny_model(case), tmp_path)
    giant = {
        "progan": {"base_channels": 10**6, "max_channels": 10**6},  # 36 TB for one convolution
        "classifier": {"feature_dim": 10**10},
        "dense_autoencoder": {"widths": [10**10, 3]},
    }[case]
    edit(tmp_path, lambda document: document["config"].update(giant))
    with pytest.raises(
        CheckpointError, match=r"model.safetensors: the weights do not fit the configuration: .*of another"
    ):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("dense_autoencoder", {"widths": [1] * 10**4}),
        ("vae", {"hidden_dims": [1] * 10**4}),
        ("two_head_classifier", {"classifier_config": {"channels": [1] * 10**4}}),
    ],
)
def test_a_list_of_more_layers_than_there_are_weights_builds_nothing(
    case: str, change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pretrained(tiny_model(case), tmp_path)
    edit(tmp_path, lambda document: document["config"].update(change))
    monkeypatch.setattr("ganblocks.models.sharing.model_from_metadata", lambda _: pytest.fail("it is built"))
    with pytest.raises(CheckpointError, match=r"config.json: the configuration has more layers than .*model.safe"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("case", "fields"), [("transform_network", {"blocks": 10**9}), ("style_decoder", {"depths": [10**9, 1]})]
)
def test_a_number_of_layers_that_would_take_for_ever_is_refused(
    case: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    save_pretrained(tiny_model(case), tmp_path)
    edit(tmp_path, lambda document: document["config"].update(fields))
    with pytest.raises(CheckpointError, match="256 at most"):
        from_pretrained(tmp_path)


def test_weights_of_other_names_shapes_or_kinds_are_told(saved: Path) -> None:
    weights = from_pretrained(saved).state_dict()
    others: dict[str, dict[str, Tensor]] = {
        "1 unexpected: extra": {**weights, "extra": torch.zeros(1)},
        "1 missing: head.bias": {key: tensor for key, tensor in weights.items() if key != "head.bias"},
        r"1 of another kind: head.bias \(\(4,\), 'F32'\)": {**weights, "head.bias": torch.zeros(4)},
        "1 of another kind: head.bias .*'F64'": {**weights, "head.bias": torch.zeros(3, dtype=torch.float64)},
        "head.bias holds 3 values": {**weights, "head.bias": torch.full((3,), float("nan"))},
    }
    for words, other in others.items():
        replace_weights(saved, other)
        with pytest.raises(CheckpointError, match=f"model.safetensors: .*{words}"):
            from_pretrained(saved)
    replace_weights(saved, dict(weights))
    assert isinstance(from_pretrained(saved), SmallClassifier)


@pytest.mark.parametrize("about", [{"model": "painting_mlp"}, {"config": "{}"}])
def test_weights_that_name_another_model_are_refused(about: dict[str, str], saved: Path) -> None:
    replace_weights(saved, from_pretrained(saved).state_dict(), about)
    with pytest.raises(CheckpointError, match="belongs to another model or configuration"):
        from_pretrained(saved)


def test_weights_without_metadata_are_refused(saved: Path) -> None:
    replace_weights(saved, from_pretrained(saved).state_dict(), {"config": ""})
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        from_pretrained(saved)


# The hub: a module of its name that finds files in a folder; nothing is asked of any network


@pytest.fixture
def asked(saved: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    calls: list[tuple[str, str, str]] = []

    def hf_hub_download(repo_id: str, filename: str, *, revision: str, cache_dir: object) -> str:
        calls.append((repo_id, filename, revision))
        if revision != "v1":
            raise OSError("404")
        return str(saved / filename)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(hf_hub_download=hf_hub_download))
    return calls


def test_a_model_comes_from_the_hub_by_its_hash(saved: Path, asked: list[tuple[str, str, str]]) -> None:
    told = read_description(saved)["weights"]["sha256"]
    model = from_hub("owner/name", revision="v1", sha256=told.upper(), name="classifier")
    assert asked == [("owner/name", "config.json", "v1"), ("owner/name", "model.safetensors", "v1")]
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(images), from_pretrained(saved)(images))


def test_weights_of_another_hash_are_not_even_fetched(asked: list[tuple[str, str, str]]) -> None:
    with pytest.raises(CheckpointError, match="owner/name at v1 has weights of the SHA-256"):
        from_hub("owner/name", revision="v1", sha256="0" * 64)
    with pytest.raises(CheckpointError, match="wanted is 'progan'"):
        from_hub("owner/name", revision="v1", sha256="0" * 64, name="progan")
    with pytest.raises(CheckpointError, match=r"config.json of owner/name at v2 could not be fetched \(OSError: 404\)"):
        from_hub("owner/name", revision="v2", sha256="0" * 64)
    assert {file for _, file, _ in asked} == {"config.json"}


def test_a_hub_that_lies_about_the_hash_is_found_out(saved: Path, asked: list[tuple[str, str, str]]) -> None:
    told = read_description(saved)["weights"]["sha256"]
    replace_weights(saved, tiny_model("classifier").state_dict())
    edit(saved, lambda document: document["weights"].update(sha256=told))
    with pytest.raises(CheckpointCorruptError, match="other content than was saved"):
        from_hub("owner/name", revision="v1", sha256=told)
    assert len(asked) == 2


def test_the_hub_wants_a_hash_a_revision_and_its_client(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for sha256 in ("", "0" * 63, "g" * 64, None):
        with pytest.raises(ValueError, match="`sha256` is"):
            from_hub("owner/name", revision="v1", sha256=sha256)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`revision` is ''"):
        from_hub("owner/name", revision="", sha256="0" * 64)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[hub\]"'):
        from_hub("owner/name", revision="v1", sha256="0" * 64)
    monkeypatch.chdir(saved.parent)
    (saved.parent / "owner").mkdir()
    saved.rename(saved.parent / "owner" / "name")
    assert isinstance(from_pretrained("owner/name"), SmallClassifier)  # a directory is a directory
