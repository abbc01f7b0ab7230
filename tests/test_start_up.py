"""What an import brings along. A clock would say how busy the machine is; names say what makes a start slow."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"

# Packages in this order, each with what it may import from outside besides what torch has imported.
MAY_BRING: dict[str, set[str]] = {
    "ganblocks": set(),
    "ganblocks.functional": set(),
    "ganblocks.ops": set(),
    "ganblocks.layers": set(),
    "ganblocks.losses": set(),
    "ganblocks.models": {"safetensors"},
    "ganblocks.data": {"PIL", "filelock", "numpy", "tqdm"},
    "ganblocks.metrics": set(),
    "ganblocks.visualization": set(),
    "ganblocks.training": set(),
}
BROUGHT = """
import importlib, sys
import numpy.random, torch
for package in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(package)
    print(package, *sorted(set(sys.modules) - before))
"""


def brought_by(*packages: str) -> dict[str, set[str]]:
    """Modules that each package imports, in a process of their own that has imported torch."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", BROUGHT, *packages]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=True)
    return {package: set(names) for package, *names in (line.split() for line in done.stdout.splitlines())}


def foreign(names: set[str]) -> set[str]:
    """Packages that are neither ours nor Python's; private ones are parts of others."""
    roots = {name.partition(".")[0] for name in names}
    return {root for root in roots if root not in sys.stdlib_module_names and root[0] != "_"} - {"ganblocks"}


def test_each_package_brings_only_what_all_of_its_users_need() -> None:
    found = brought_by(*MAY_BRING)
    more = {package: foreign(names) - MAY_BRING[package] for package, names in found.items()}
    assert {package: names for package, names in more.items() if names} == {}
    assert [name for names in found.values() for name in names if name.startswith("torch.")] == []
    assert found["ganblocks"] == {"ganblocks", "ganblocks._version"}


def test_a_layer_brings_no_other_floor_than_those_below() -> None:
    floors = {name.split(".")[1] for name in brought_by("ganblocks.layers")["ganblocks.layers"] if name.count(".") > 0}
    ours = {floor for floor in floors if (SOURCE / "ganblocks" / floor / "__init__.py").is_file()}
    assert ours == {"functional", "ops", "layers"}


def test_a_heavy_package_would_be_noticed() -> None:
    names = brought_by("scipy.special")["scipy.special"]
    assert "scipy" in foreign(names)
    assert foreign({"json.decoder", "_cython_3", "ganblocks.data", "PIL.Image"}) == {"PIL"}
