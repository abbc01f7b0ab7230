"""What a release may hold and what its files must agree on: plain functions over names and texts, without a build."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["content_problems", "floors", "version_problems"]

_DIST_INFO = r"ganblocks-[\w.+]+\.dist-info/"
_PACKAGE = (r"(?:\w+/)*\w+\.py", r"py\.typed", r"visualization/report_template\.html")
ALLOWED: dict[str, tuple[str, ...]] = {  # kind -> patterns, each for a whole path below the top folder
    "wheel": (
        *(f"ganblocks/{pattern}" for pattern in _PACKAGE),
        _DIST_INFO + r"(?:METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)",
    ),
    "sdist": (
        r"PKG-INFO|pyproject\.toml|\.gitignore|LICENSE|CITATION\.cff",
        r"(?:README|CHANGELOG|CONTRIBUTING|SECURITY|CODE_OF_CONDUCT)\.md",
        *(f"src/ganblocks/{pattern}" for pattern in _PACKAGE),
        r"tests/(?:\w+/)*\w+\.py",
        r"tests/golden/(?:\w+/)*\w+\.(?:json|safetensors)",
        r"(?:examples|benchmarks)/(?:\w+/)*\w+\.py",
        r"benchmarks/results/\w+\.(?:md|json)",
        r"docs/(?:\w+/)*\w+\.(?:md|rst|py|yml|css|js|html|json)",
        r"docs/(?:\w+/)*\w+\.ipynb",
        r"docs/(?:\w+/)*images/(?:\w+/)*\w+\.(?:png|webp|gif|svg)",  # the only pictures
        r"\.ci/\w+(?:\.py)?",
        r"\.github/(?:\w+/)*\w+\.(?:yml|md)",
    ),
}
REQUIRED: dict[str, tuple[str, ...]] = {  # kind -> patterns of which each must be there
    "wheel": (
        r"ganblocks/py\.typed",
        _DIST_INFO + r"METADATA",
        _DIST_INFO + r"entry_points\.txt",
        _DIST_INFO + r"licenses/LICENSE",
    ),
    "sdist": (
        *(r"PKG-INFO", r"pyproject\.toml", r"LICENSE", r"README\.md", r"CHANGELOG\.md", r"CITATION\.cff"),
        r"src/ganblocks/py\.typed",
        r"tests/conftest\.py",
    ),
}
LARGEST_FILE = {"wheel": 256 * 2**10, "sdist": 2**20}  # bytes: data and weights in a file of a permitted name
LARGEST_ALL = {"wheel": 8 * 2**20, "sdist": 32 * 2**20}


def content_problems(kind: str, files: Mapping[str, int], package_files: Iterable[str] = ()) -> list[str]:
    """What is in a distribution and may not be, or is missing from it.

    Args:
        kind: ``"wheel"`` or ``"sdist"``.
        files: Paths with ``/`` below the top folder, and their sizes in bytes.
        package_files: Paths below ``src/`` that must all be there.

    Returns:
        One line for each problem, sorted.
    """
    root = "" if kind == "wheel" else "src/"
    problems = [f"{kind}: {name} is not on the list" for name in files if not _matches(name, ALLOWED[kind])]
    problems += [f"{kind}: {name} is there twice in other case" for name in _twins(files)]
    problems += [f"{kind}: {name} has {size:,} bytes" for name, size in files.items() if size > LARGEST_FILE[kind]]
    problems += [
        f"{kind}: nothing is called {pattern}"
        for pattern in REQUIRED[kind]
        if not any(re.fullmatch(pattern, name) for name in files)
    ]
    problems += [f"{kind}: {root}{name} is missing" for name in package_files if root + name not in files]
    total = sum(files.values())
    if total > LARGEST_ALL[kind]:
        problems.append(f"{kind}: {total:,} bytes in all")
    return sorted(problems)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name, re.ASCII) for pattern in patterns)


def _twins(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in sorted(names):
        if name.lower() in seen:
            yield name
        seen.add(name.lower())


def version_problems(root: Path, *, releasing: bool) -> list[str]:
    """Where the version is told differently.

    ``_version.py`` has it; ``CITATION.cff`` and the entry to cite in ``README.md`` repeat it.

    Args:
        root: Of the project.
        releasing: Whether the newest part of ``CHANGELOG.md`` must be that of this version, dated and with nothing
            unreleased above it. Otherwise its parts may only not be of a later version.

    Returns:
        One line for each problem.
    """
    texts = {name: (root / name).read_text("utf-8") for name in ("CITATION.cff", "README.md", "CHANGELOG.md")}
    source = (root / "src" / "ganblocks" / "_version.py").read_text("utf-8")
    version = _found(r'^__version__ = "(.*)"$', source)
    problems = [
        f"{name} says {told}, _version.py {version}"
        for name, told in (
            ("CITATION.cff", _found(r"^version: (.*)$", texts["CITATION.cff"])),
            ("README.md", _found(r"^  version = {(.*)},$", texts["README.md"])),
        )
        if told != version
    ]
    if version is None or not re.fullmatch(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?", version):
        return [*problems, f"_version.py says {version}, which is no version such as 1.2.3 or 1.2.3rc1"]

    parts = re.findall(r"^## \[(\d[^\]]*)\](?: - (.*))?$", texts["CHANGELOG.md"], re.MULTILINE)
    if releasing:
        newest, date = parts[0] if parts else ("no version", "")
        if newest != version:
            problems.append(f"CHANGELOG.md begins with {newest}, _version.py says {version}")
        elif not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
            problems.append(f"CHANGELOG.md dates {version} {date!r}, not as in 2026-01-31")
        if re.search(r"^## \[Unreleased\]\n+(?!## )\S", texts["CHANGELOG.md"], re.MULTILINE):
            problems.append("CHANGELOG.md still has unreleased changes")
    problems += [f"CHANGELOG.md has {told}, later than {version}" for told, _ in parts if _key(told) > _key(version)]
    return problems


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else None


def _key(version: str) -> tuple[tuple[int, ...], tuple[int, str]]:
    numbers, letters = re.fullmatch(r"([\d.]+)(.*)", version).groups()  # type: ignore[union-attr]
    return tuple(int(number) for number in numbers.rstrip(".").split(".")), (not letters, letters)


def floors(requirements: Iterable[str]) -> dict[str, str]:
    """The lowest version that each requirement admits, by the name of its project.

    Args:
        requirements: As in ``pyproject.toml``: ``name[extras]>=1.2,<3``. Those without a floor are left out, and those
            on ganblocks itself too.

    Raises:
        ValueError: Two requirements on one project have different floors, or one has a form that is not known here.
    """
    found: dict[str, str] = {}
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?((?:(?:>=|<=|<|!=)[\w.]+,?)*)", requirement)
        if match is None:
            raise ValueError(f"a requirement of unknown form: {requirement}")
        name = match.group(1).lower().replace("_", "-")
        floor = re.search(r">=([\w.]+)", match.group(2))
        if name == "ganblocks" or floor is None:
            continue
        if found.setdefault(name, floor.group(1)) != floor.group(1):
            raise ValueError(f"{name} has two floors: {found[name]} and {floor.group(1)}")
    return found
