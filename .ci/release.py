"""Whether this checkout can be released: ``.ci/release [PART...]``. Nothing is uploaded.

Everything happens in a scratch folder, which goes away at the end (``--keep`` leaves it). Most environments are copies
of one into which the wheel was installed; a copy shares its files until one is replaced.
"""

import argparse
import email
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from release_archives import ReleaseError, differences, listing
from release_rules import content_problems, floors, version_problems

__all__ = ["PARTS", "Workshop", "main"]

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("train", "vision", "metrics", "examples", "hub", "export")  # but for those that only collect others
TOOLS = ("build", "twine", "pyright[nodejs]")
TESTS = (  # of what the dependencies do for us; everything else is as on any version, and tested by .ci/run
    *("functional", "layers", "losses", "data", "metrics", "visualization", "cli"),
    *("models/test_sharing.py", "models/test_export.py", "models/test_progan.py"),
    *("training/test_checkpoint.py", "training/test_checkpoint_format.py", "training/test_trainer.py"),
    "training/test_callbacks.py",
)


class Workshop:
    """What the parts share, each made when it is first asked for.

    Args:
        scratch: An empty folder.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    @cached_property
    def tracked(self) -> list[str]:
        """Paths of the files that git knows and that are there."""
        names = _output(["git", "ls-files", "-z"], ROOT).split("\0")
        return [name for name in names if name and (ROOT / name).is_file()]

    @cached_property
    def clean(self) -> Path:
        """A copy of those files and no others, as a fresh clone would have them."""
        folder = self.scratch / "another place" / "clone"
        for name in self.tracked:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
            shutil.copymode(ROOT / name, folder / name)
        return folder

    @cached_property
    def tools(self) -> Path:
        """The ``bin`` of an environment with what builds and checks."""
        folder = self.scratch / "tools"
        venv.create(folder, with_pip=True)
        _pip(folder, *TOOLS)
        return folder / "bin"

    @cached_property
    def distributions(self) -> dict[str, Path]:
        """The sdist and the wheel, built from the checkout as it lies there."""
        return self.build(ROOT, "dist")

    def build(self, source: Path, name: str, umask: int = -1, **variables: str) -> dict[str, Path]:
        """Build the sdist, and from it the wheel."""
        out = self.scratch / name
        epoch = _output(["git", "log", "-1", "--format=%ct"], ROOT).strip()
        environment = os.environ | {"SOURCE_DATE_EPOCH": epoch} | variables
        command = ("-m", "build", "--outdir", out, source)
        _run([self.tools / "python", *command], self.scratch, environment, quiet=True, umask=umask)
        return {"sdist": _only(out, "*.tar.gz"), "wheel": _only(out, "*.whl")}

    @cached_property
    def core(self) -> Path:
        """An environment with the wheel and what it depends on."""
        folder = self.scratch / "core"
        venv.create(folder, with_pip=True)
        _pip(folder, str(self.distributions["wheel"]))
        return folder

    def environment(self, name: str, *arguments: str) -> Path:
        """A copy of `core`, with more in it."""
        folder = self.scratch / name
        shutil.copytree(self.core, folder, symlinks=True, copy_function=_link)
        _pip(folder, *arguments)
        return folder

    def with_extras(self, extras: str) -> str:
        """The wheel with extras, as ``pip`` takes it."""
        return f"{self.distributions['wheel']}[{extras}]"

    def smoke(self, environment: Path, *names: str) -> None:
        """Run the smoke test, and the command as a user types it."""
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        _run([environment / "bin" / "python", "-m", "pip", "check"], folder)
        _run([environment / "bin" / "python", "-I", ROOT / ".ci" / "smoke.py", *names], folder)

    def tests(self, environment: Path) -> None:
        """Run those tests that lean on dependencies, against the wheel and not the source beside them."""
        python = environment / "bin" / "python"
        where = _output([python, "-c", "import ganblocks; print(ganblocks.__file__)"], self.clean).strip()
        if not Path(where).is_relative_to(environment):
            raise ReleaseError(f"the tests would import {where}, not the wheel")
        _run([python, "-m", "pip", "list", "--format=freeze"], self.clean)
        variables = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        tests = [Path("tests") / name for name in TESTS]
        # Old versions warn of what new ones, or their own dependencies, will drop; that is no business of ours.
        options = ("-n", "2", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning")
        _run([python, "-m", "pytest", *options, *tests], self.clean, os.environ | variables)


def check_version(shop: Workshop) -> None:
    """The version is the same everywhere, and CHANGELOG.md is closed for it."""
    _raise_for(version_problems(ROOT, releasing=True))


def check_build(shop: Workshop) -> None:
    """Building twice, in two places and under other circumstances, gives the same bits."""
    variables = {"PYTHONHASHSEED": "12345", "TZ": "Pacific/Kiritimati", "LC_ALL": "C"}
    again = shop.build(shop.clean, "dist again", umask=0o077, **variables)
    for kind, first in shop.distributions.items():
        _raise_for([f"{kind}: {line}" for line in differences(first, again[kind])])
        print(f"{hashlib.sha256(first.read_bytes()).hexdigest()}  {first.name}")


def check_contents(shop: Workshop) -> None:
    """Sdist and wheel hold what they should, and the wheel tells the right things about itself."""
    sources = [name.removeprefix("src/") for name in shop.tracked if name.startswith("src/")]
    problems: list[str] = []
    for kind, path in shop.distributions.items():
        files = {name: len(content) for name, (_, content) in listing(path).items()}
        problems += content_problems(kind, files, sources)
        print(f"{path.name}: {len(files)} files, {sum(files.values()):,} bytes, {path.stat().st_size:,} packed")
    _raise_for(problems + _metadata_problems(shop.distributions["wheel"], shop.settings["project"]))


def _metadata_problems(wheel: Path, project: Mapping[str, Any]) -> list[str]:
    files = {name.rpartition("/")[2]: content for name, (_, content) in listing(wheel).items() if "dist-info" in name}
    told = email.message_from_bytes(files["METADATA"])
    version = re.search(r'"(.*)"', (ROOT / "src" / "ganblocks" / "_version.py").read_text("utf-8").splitlines()[-1])
    wanted = {
        "Name": [project["name"]],
        "Version": [version and version.group(1)],
        "License-Expression": [project["license"]],
        "License-File": project["license-files"],
        "Requires-Python": [project["requires-python"]],
        "Provides-Extra": sorted(project["optional-dependencies"]),
    }
    return [
        f"wheel: {key} is {found}, not {values}"
        for key, values in wanted.items()
        if (found := sorted(told.get_all(key, []))) != values
    ]


def check_metadata(shop: Workshop) -> None:
    """An index would accept both, and can show the description."""
    _run([shop.tools / "twine", "check", "--strict", *shop.distributions.values()], shop.scratch)


def check_types(shop: Workshop) -> None:
    """A type checker knows the type of every public name."""
    folder = Path(tempfile.mkdtemp(dir=shop.scratch))
    # What is drawn has matplotlib's types in its signatures, so it has to be there.
    environment = shop.environment("types", shop.with_extras("train"))
    variables = os.environ | {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = [str(shop.tools / "pyright"), "--verifytypes", "ganblocks", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError) as error:
        raise ReleaseError(f"pyright said: {done.stdout}{done.stderr}") from error
    shutil.rmtree(environment)
    counts, score = report["exportedSymbolCounts"], report["completenessScore"]
    print(f"{score:.1%} of {sum(counts.values())} names: {counts}")
    unknown = [symbol for symbol in report["symbols"] if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    lines = {f"{symbol['name']}: {each['message']}" for symbol in unknown for each in symbol["diagnostics"]}
    if score < 1 or unknown or sum(counts.values()) < 1000:
        raise ReleaseError("\n".join([f"types are known for {score:.2%}", *sorted(lines)]))


def check_install(shop: Workshop) -> None:
    """The wheel works with core dependencies only."""
    shop.smoke(shop.core, "alone", "core")
    # Scripts of a copy name the environment they were made in, so the command is tried here.
    told = _output([shop.core / "bin" / "ganblocks", "info"], shop.scratch)
    print(told)
    if not re.match(r"ganblocks +\d", told):
        raise ReleaseError("`ganblocks info` does not begin with the version")


def check_extras(shop: Workshop) -> None:
    """The wheel works with each extra, alone in its environment."""
    brings = {
        "examples": ("train", "vision", "metrics", "examples"),
        "all": EXTRAS,
        "dev": ("train", "metrics", "examples"),
    }
    for extra in (*EXTRAS, "all", "dev"):
        environment = shop.environment(f"extra {extra}", shop.with_extras(extra))
        shop.smoke(environment, "core", *brings.get(extra, (extra,)))
        shutil.rmtree(environment)


def check_lowest(shop: Workshop) -> None:
    """It works with the lowest versions of everything that the requirements admit, on the lowest Python."""
    project = shop.settings["project"]
    lowest = project["requires-python"].removeprefix(">=")
    if ".".join(map(str, sys.version_info[:2])) != lowest:
        raise ReleaseError(f"this is Python {sys.version.split()[0]}; set PYTHON to a Python {lowest}")
    extras: dict[str, list[str]] = project["optional-dependencies"]
    pins = floors([*project["dependencies"], *(each for extra in extras.values() for each in extra)])
    constraints = shop.scratch / "floors.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())), "utf-8")
    environment = shop.scratch / "lowest"
    venv.create(environment, with_pip=True)
    _pip(environment, "-c", str(constraints), shop.with_extras("all,dev"))
    shop.smoke(environment, "core", *EXTRAS)
    shop.tests(environment)
    shutil.rmtree(environment)


def check_newest(shop: Workshop) -> None:
    """It works with the newest versions of everything."""
    eager = ("--upgrade", "--upgrade-strategy", "eager")
    environment = shop.environment("newest", *eager, shop.with_extras("all,dev"))
    shop.smoke(environment, "core", *EXTRAS)
    shop.tests(environment)
    shutil.rmtree(environment)


PARTS: dict[str, Callable[[Workshop], None]] = {
    "version": check_version,
    "build": check_build,
    "contents": check_contents,
    "metadata": check_metadata,
    "types": check_types,
    "install": check_install,
    "extras": check_extras,
    "lowest": check_lowest,
    "newest": check_newest,
}


def _run(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    quiet: bool = False,
    umask: int = -1,
) -> None:
    words = [str(word) for word in command]
    sink = subprocess.PIPE if quiet else None
    sys.stdout.flush()
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=sink, stderr=sink and subprocess.STDOUT, umask=umask, check=False
    )
    if done.returncode:
        told = done.stdout.decode(errors="replace") if quiet else ""
        raise ReleaseError(f"{told}\n{' '.join(words)} ended with {done.returncode}".strip())


def _output(command: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def _pip(environment: Path, *arguments: str) -> None:
    python = environment / "bin" / "python"
    _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments], environment)


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ReleaseError(f"{pattern} is there {len(found)} times")
    return found[0]


def _raise_for(problems: Sequence[str]) -> None:
    if problems:
        raise ReleaseError("\n".join(problems))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are named, or all; every part runs, whatever became of those before it.

    Returns:
        0, or 1 if a part failed.
    """
    texts = "\n".join(f"  {name:9} {function.__doc__}" for name, function in PARTS.items())
    parser = argparse.ArgumentParser(
        ".ci/release",
        description="Check whether this checkout can be released.",
        epilog=f"parts:\n{texts}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="one of those below; none = all")
    parser.add_argument("--keep", action="store_true", help="leave the scratch folder behind, and say where it is")
    parser.add_argument("--out", type=Path, help="an empty or new folder for sdist and wheel, if all parts passed")
    options = parser.parse_args(arguments)
    if options.out is not None and options.out.is_dir() and any(options.out.iterdir()):
        parser.error(f"{options.out} is not empty")
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no such part: {', '.join(unknown)}")
    scratch = Path(tempfile.mkdtemp(prefix="ganblocks-release-")).resolve()
    shop, rows, failed = Workshop(scratch), [], False
    try:
        for name in options.parts or PARTS:
            print(f"\n== {name}: {PARTS[name].__doc__}", flush=True)
            start, verdict = time.monotonic(), "passed"
            try:
                PARTS[name](shop)
            except ReleaseError as error:
                print(error, file=sys.stderr, flush=True)
                verdict, failed = "FAILED", True
            rows.append(f"{name:9} {verdict}  {time.monotonic() - start:5.0f} s")
        if options.out is not None and not failed:
            options.out.mkdir(parents=True, exist_ok=True)
            for path in shop.distributions.values():
                shutil.copy2(path, options.out)
    finally:
        if options.keep:
            print(f"left behind: {scratch}")
        else:
            shutil.rmtree(scratch)
    print("", *rows, sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
