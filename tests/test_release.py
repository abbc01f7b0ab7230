"""The rules of a release on made-up listings, texts and archives, and the forms and workflows of the repository."""

import importlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / ".ci"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
INFO = "ganblocks-1.2.3.dist-info/"
WHEEL = {
    "ganblocks/__init__.py": 100,
    "ganblocks/layers/conv.py": 2000,
    "ganblocks/py.typed": 0,
    **{INFO + name: 500 for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")},
}
SDIST = {
    **dict.fromkeys(("PKG-INFO", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff"), 500),
    **dict.fromkeys(("src/ganblocks/__init__.py", "src/ganblocks/layers/conv.py", "src/ganblocks/py.typed"), 100),
    **dict.fromkeys(("tests/conftest.py", "tests/golden/a/tensors.safetensors", "docs/images/a.png"), 100),
}
GOOD = {"wheel": WHEEL, "sdist": SDIST}
PACKAGE_FILES = ("ganblocks/__init__.py", "ganblocks/layers/conv.py", "ganblocks/py.typed")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The programs of a release; they are not installed, so their folder is lent to the path."""
    names = ("release_archives", "release_rules", "release", "smoke")
    sys.path.insert(0, str(CI))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(CI))
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def rules(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["release_rules"]


@pytest.fixture
def archives(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["release_archives"]


@pytest.mark.parametrize("kind", GOOD)
def test_what_belongs_into_a_distribution_is_allowed(rules: ModuleType, kind: str) -> None:
    assert rules.content_problems(kind, GOOD[kind], PACKAGE_FILES) == []


def test_every_file_of_this_checkout_that_goes_into_the_sdist_is_allowed(rules: ModuleType) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository around the sources: what git tracks is not known")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    roots = settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = [name for name in told.split("\0") if any(f"/{name}/".startswith(root + "/") for root in roots)]
    files = {name: (ROOT / name).stat().st_size for name in tracked if (ROOT / name).is_file()}
    assert len(files) > 500
    added = {"PKG-INFO": 500, "pyproject.toml": 500}  # by hatchling itself
    assert rules.content_problems("sdist", files | added) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("wheel", "tests/conftest.py"),
        ("wheel", "ganblocks/tests.txt"),
        ("wheel", "ganblocks/__pycache__/conv.cpython-311.pyc"),
        ("wheel", "ganblocks/layers/picture.png"),
        ("wheel", "other/__init__.py"),
        ("wheel", INFO + "direct_url.json"),
        ("sdist", "runs/progan/log.jsonl"),
        ("sdist", ".mypy_cache/3.11/a.json"),
        ("sdist", "tests/__pycache__/conftest.cpython-311.pyc"),
        ("sdist", "tests/data/face.png"),
        ("sdist", "examples/face.png"),
        ("sdist", "docs/guide/face.png"),
        ("sdist", "data/train-images-idx3-ubyte"),
        ("sdist", "docs/images/../../secret.png"),
        ("sdist", "weights.safetensors"),
        ("sdist", "src/ganblocks/weights.safetensors"),
        ("sdist", ".env"),
        ("sdist", "README.md\n"),
    ],
)
def test_what_does_not_belong_into_a_distribution_is_named(rules: ModuleType, kind: str, name: str) -> None:
    assert rules.content_problems(kind, {**GOOD[kind], name: 10}) == [f"{kind}: {name} is not on the list"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("wheel", "ganblocks/py.typed"), ("wheel", INFO + "licenses/LICENSE"), ("wheel", INFO + "entry_points.txt")]
    + [("sdist", name) for name in ("LICENSE", "src/ganblocks/py.typed", "pyproject.toml", "tests/conftest.py")],
)
def test_a_distribution_without_a_file_that_it_needs_is_refused(rules: ModuleType, kind: str, name: str) -> None:
    (problem,) = rules.content_problems(kind, {key: size for key, size in GOOD[kind].items() if key != name})
    assert problem.startswith(f"{kind}: nothing is called ")
    assert re.fullmatch(problem.partition(" is called ")[2], name)


@pytest.mark.parametrize("kind", GOOD)
def test_a_source_that_was_left_out_is_missed(rules: ModuleType, kind: str) -> None:
    root = {"wheel": "", "sdist": "src/"}[kind]
    problems = rules.content_problems(kind, GOOD[kind], [*PACKAGE_FILES, "ganblocks/ops/new.py"])
    assert problems == [f"{kind}: {root}ganblocks/ops/new.py is missing"]


def test_too_much_under_a_permitted_name_is_refused(rules: ModuleType) -> None:
    weights = "tests/golden/a/tensors.safetensors"
    assert rules.content_problems("sdist", SDIST | {weights: 5 * 2**20}) == [f"sdist: {weights} has 5,242,880 bytes"]
    many = {f"tests/test_{number}.py": 2**20 for number in range(40)}
    assert [line.endswith("bytes in all") for line in rules.content_problems("sdist", SDIST | many)] == [True]


def test_two_names_that_are_one_on_other_systems_are_refused(rules: ModuleType) -> None:
    doubled = WHEEL | {"ganblocks/layers/Conv.py": 10}
    assert rules.content_problems("wheel", doubled) == ["wheel: ganblocks/layers/conv.py is there twice in other case"]


def write_project(
    root: Path, *, version: str = "1.2.3", cited: str = "1.2.3", shown: str = "1.2.3", changes: str = ""
) -> Path:
    (root / "src" / "ganblocks").mkdir(parents=True)
    (root / "src" / "ganblocks" / "_version.py").write_text(f'"""The version."""\n\n__version__ = "{version}"\n')
    (root / "CITATION.cff").write_text(f"cff-version: 1.2.0\nversion: {cited}\n")
    (root / "README.md").write_text(f"@software{{x,\n  version = {{{shown}}},\n}}\n")
    (root / "CHANGELOG.md").write_text(changes or "# Changelog\n\n## [1.2.3] - 2026-01-31\n\n- All.\n")
    return root


def test_versions_that_agree_can_be_released(rules: ModuleType, tmp_path: Path) -> None:
    assert rules.version_problems(write_project(tmp_path), releasing=True) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"cited": "1.2.2"}, "CITATION.cff says 1.2.2, _version.py 1.2.3"),
        ({"shown": "1.2.2"}, "README.md says 1.2.2, _version.py 1.2.3"),
        ({"changes": "## [1.2.4] - 2026-01-31\n"}, "CHANGELOG.md has 1.2.4, later than 1.2.3"),
        ({"changes": "## [1.2.10] - 2026-01-31\n"}, "CHANGELOG.md has 1.2.10, later than 1.2.3"),
        (dict.fromkeys(("version", "cited", "shown"), "1.2"), "_version.py says 1.2, which is no version"),
        ({"changes": "## [Unreleased]\n\n- More.\n\n## [1.2.3] - 2026-01-31\n"}, "CHANGELOG.md still has unreleased"),
        ({"changes": "## [Unreleased]\n\n- More.\n"}, "CHANGELOG.md begins with no version"),
        ({"changes": "## [1.2.3]\n"}, "CHANGELOG.md dates 1.2.3 '', not as in"),
        ({"changes": "## [1.2.2] - 2026-01-31\n"}, "CHANGELOG.md begins with 1.2.2"),
    ],
)
def test_versions_that_differ_are_named(
    rules: ModuleType, tmp_path: Path, changed: dict[str, str], problem: str
) -> None:
    problems = rules.version_problems(write_project(tmp_path, **changed), releasing=True)
    assert any(line.startswith(problem) for line in problems), problems


def test_what_is_not_released_yet_may_stand_in_the_changelog_between_releases(
    rules: ModuleType, tmp_path: Path
) -> None:
    changes = "## [Unreleased]\n\n- More.\n\n## [1.2.2] - 2026-01-31\n"
    assert rules.version_problems(write_project(tmp_path, changes=changes), releasing=False) == []


def test_a_candidate_comes_before_its_release(rules: ModuleType, tmp_path: Path) -> None:
    candidate = dict.fromkeys(("version", "cited", "shown"), "1.2.3rc1")
    problems = rules.version_problems(write_project(tmp_path, **candidate), releasing=False)
    assert problems == ["CHANGELOG.md has 1.2.3, later than 1.2.3rc1"]


def test_the_version_of_this_checkout_is_the_same_everywhere(rules: ModuleType) -> None:
    assert rules.version_problems(ROOT, releasing=False) == []


def test_a_floor_is_the_lowest_version_that_a_requirement_admits(rules: ModuleType) -> None:
    requirements = ["torch>=2.11", "Huggingface_Hub[cli]>=0.26,<2", "ganblocks[train]", "types-tqdm", "torch>=2.11"]
    assert rules.floors(requirements) == {"torch": "2.11", "huggingface-hub": "0.26"}


@pytest.mark.parametrize("requirements", [["torch>=2.11", "torch>=2.12"], ["torch @ file:///x"], ["torch~=2.11"]])
def test_floors_that_are_not_clear_are_refused(rules: ModuleType, requirements: list[str]) -> None:
    with pytest.raises(ValueError, match="torch"):
        rules.floors(requirements)


def test_every_dependency_of_this_project_has_a_floor(rules: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [*project["dependencies"]]
    for extra, requirements in project["optional-dependencies"].items():
        needed += [] if extra == "dev" else requirements
    named = {re.split(r"[\[>]", each)[0].lower() for each in needed} - {"ganblocks"}
    assert rules.floors(needed).keys() == named


def write_sdist(path: Path, files: Mapping[str, bytes], *, mtime: int = 0, level: int = 9) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=level) as file:
        for name, content in files.items():
            member = tarfile.TarInfo(f"ganblocks-1.2.3/{name}")
            member.size, member.mtime = len(content), mtime
            file.addfile(member, io.BytesIO(content))
    return path


def test_two_archives_of_the_same_bits_do_not_differ(archives: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first = write_sdist(tmp_path / "a.tar.gz", {"x.py": b"1"})
    second = Path(shutil.copy(first, tmp_path / "again" / "a.tar.gz"))
    assert archives.differences(first, second) == []


@pytest.mark.parametrize(
    ("files", "options", "difference"),
    [
        ({"x.py": b"2"}, {}, "x.py: other content"),
        ({"x.py": b"1", "y.py": b""}, {}, "only in the second: y.py"),
        ({}, {}, "only in the first: x.py"),
        ({"x.py": b"1"}, {"mtime": 1}, "x.py: 0 644 0 0 '' '' and 1 644 0 0 '' ''"),
        ({"x.py": b"1"}, {"level": 0}, "a.tar.gz and b.tar.gz: same files, but packed in another way"),
    ],
)
def test_how_two_archives_differ_is_told(
    archives: ModuleType, tmp_path: Path, files: dict[str, bytes], options: dict[str, int], difference: str
) -> None:
    first = write_sdist(tmp_path / "a.tar.gz", {"x.py": b"1"})
    second = write_sdist(tmp_path / "b.tar.gz", files, **options)
    assert archives.differences(first, second) == [difference]


def test_an_sdist_with_a_link_is_refused(archives: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        link = tarfile.TarInfo("ganblocks-1.2.3/README.md")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        file.addfile(link)
    with pytest.raises(archives.ReleaseError, match=r"README\.md is no regular file"):
        archives.listing(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_wheel_with_a_name_twice_is_refused(archives: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as file:
        for content in ("1", "2"):
            file.writestr("ganblocks/x.py", content)
    with pytest.raises(archives.ReleaseError, match=r"holds ganblocks/x\.py twice"):
        archives.listing(path)


def test_every_extra_has_a_smoke_test(modules: dict[str, ModuleType]) -> None:
    from ganblocks.cli.info import EXTRAS

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert modules["smoke"].BRINGS.keys() == EXTRAS.keys() == extras.keys() - {"all", "dev"}
    assert modules["smoke"].CHECKS.keys() == {"alone", "core", *EXTRAS}
    assert set(modules["release"].EXTRAS) == EXTRAS.keys()
    assert {extra: len(names) for extra, names in EXTRAS.items()} == {
        extra: len(names) for extra, names in modules["smoke"].BRINGS.items()
    }


def test_a_part_that_fails_fails_the_release_and_the_others_still_run(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(shop: Any) -> None:
        """A part that fails."""
        raise modules["release_archives"].ReleaseError("this is wrong")

    def passing(shop: Any) -> None:
        """A part that passes."""

    monkeypatch.setattr(modules["release"], "PARTS", {"one": failing, "two": passing})
    assert modules["release"].main([]) == 1
    printed = capsys.readouterr()
    assert re.search(r"^one +FAILED .*\ntwo +passed ", printed.out, re.MULTILINE)
    assert printed.err == "this is wrong\n"
    assert modules["release"].main(["two"]) == 0
    with pytest.raises(SystemExit, match="2"):
        modules["release"].main(["three"])


def test_the_tests_of_the_lanes_are_there(modules: dict[str, ModuleType]) -> None:
    assert [name for name in modules["release"].TESTS if not (ROOT / "tests" / name).exists()] == []


def read_yaml(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads it, and is no dependency")
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_no_more_than_it_has_to(path: Path) -> None:
    workflow = read_yaml(path)
    allowed = [workflow["permissions"], *(job.get("permissions", {}) for job in workflow["jobs"].values())]
    for permissions in allowed:
        assert permissions in ({}, {"contents": "read"}, {"id-token": "write"})
    assert all(job["timeout-minutes"] <= 180 for job in workflow["jobs"].values())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    actions = [step["uses"] for step in steps if "uses" in step]
    assert actions
    assert all(re.fullmatch(r"(actions/[\w-]+@v\d+|pypa/[\w-]+@release/v\d+)", action) for action in actions), actions
    assert "secrets." not in path.read_text("utf-8")


def test_ci_runs_what_a_contributor_runs_on_the_oldest_and_the_newest_python() -> None:
    job = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["run"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    supported = [each.rpartition(" ")[2] for each in project["classifiers"] if "Python :: 3." in each]
    assert job["strategy"]["matrix"]["python"] == [supported[0], supported[-1]]
    assert project["requires-python"] == f">={supported[0]}"
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]


def test_nothing_is_published_before_a_person_enables_and_approves_it() -> None:
    workflow = read_yaml(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow[True] == {"workflow_dispatch": None}  # YAML reads the key "on" as a truth value
    jobs = workflow["jobs"]
    assert all("vars.RELEASES == 'enabled'" in job["if"] for job in jobs.values())
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert jobs["publish"]["environment"] == "release"
    assert jobs["publish"]["needs"] == "build"
    assert any(step.get("run") == ".ci/release --out dist" for step in jobs["build"]["steps"])


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_for_issues_is_one(path: Path) -> None:
    form = read_yaml(path)
    assert form.keys() <= {"name", "description", "labels", "body", "title"}
    assert all(isinstance(form[key], str) and form[key] for key in ("name", "description"))
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in fields} <= {"textarea", "input", "dropdown", "checkboxes"}
    identifiers = [part["id"] for part in fields]
    assert len(set(identifiers)) == len(identifiers)
    assert all(part["attributes"]["label"] for part in fields)
    assert any(part.get("validations", {}).get("required") for part in fields)


def test_a_bug_is_reported_with_what_is_installed() -> None:
    assert {path.stem for path in FORMS} == {"bug", "feature", "question"}
    body = read_yaml(ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml")["body"]
    (info,) = [part for part in body if part.get("id") == "info"]
    assert "ganblocks info" in info["attributes"]["label"]
    assert info["validations"]["required"] is True


@pytest.mark.parametrize("name", ["CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "README.md"])
def test_links_between_the_documents_of_the_repository_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text("utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
