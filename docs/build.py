"""Build the documentation and check it: ``python docs/build.py``, about a minute, no network.

Sphinx writes the API and its inventory, runs the examples in docstrings and counts what has no text; mkdocs writes the
guide, whose ``api:`` links `hooks` resolves. The site, in ``site/``, is the guide with the API at ``api/``. Every part
is strict: a warning, an example without its result, a public name without a place in the API, a link to nowhere or a
page that would fetch something from a network ends with exit code 1.
"""

import ast
import doctest
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "broken_links", "count_examples", "fetched_from_outside", "main", "missing_names", "read_page"]

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
WORK = ROOT / "build" / "docs"
SITE = ROOT / "site"
FETCHES = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
NOT_FETCHED = {"canonical", "prev", "next", "search", "index", "author"}  # <link rel=...> that leads but loads nothing


class Page(HTMLParser):
    """What a page of HTML links to, fetches, and offers as a target.

    Attributes:
        links: Addresses in ``href`` and ``src``, as they are written.
        fetches: Those of them that a browser loads by itself.
        targets: All ``id`` and ``name``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetches: list[str] = []
        self.targets: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the attributes of one element."""
        values = {key: value or "" for key, value in attrs}
        self.targets |= {values[key] for key in ("id", "name") if key in values}
        self.links += [values[key] for key in ("href", "src") if key in values]
        if FETCHES.get(tag) in values and not NOT_FETCHED & set(values.get("rel", "").split()):
            self.fetches.append(values[FETCHES[tag]])


def read_page(text: str) -> Page:
    """Parse a page."""
    page = Page()
    page.feed(text)
    page.close()
    return page


def _is_outside(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


def broken_links(pages: dict[str, Page], files: set[str]) -> list[str]:
    """Links from page to page, picture or heading that lead nowhere.

    Args:
        pages: Every page by its path from the root of the site, with ``/`` between folders.
        files: Paths of all files of the site, the pages among them.
    """
    broken = []
    for path, page in sorted(pages.items()):
        for address in page.links:
            parts = urlsplit(address)
            if _is_outside(address) or parts.scheme in ("data", "mailto", "javascript"):
                continue
            below = os.path.normpath(os.path.join(os.path.dirname(path), unquote(parts.path))) if parts.path else path
            target = below.replace(os.sep, "/")
            target = (
                f"{target}/index.html".removeprefix("./")
                if f"{target}/index.html".removeprefix("./") in files
                else target
            )
            fragment = unquote(parts.fragment)
            known = target not in pages or not fragment or fragment in pages[target].targets
            if parts.scheme or target not in files or not known:
                broken.append(f"{path}: {address}")
    return broken


def fetched_from_outside(pages: dict[str, Page]) -> list[str]:
    """What pages would load from another host."""
    return [
        f"{path}: {address}" for path, page in sorted(pages.items()) for address in page.fetches if _is_outside(address)
    ]


def missing_names(spots: list[str], inventory: dict[str, str]) -> list[str]:
    """Public names that the API has no place for."""
    return sorted(set(spots) - inventory.keys())


def count_examples(source: Path) -> int:
    """Examples (lines that begin with ``>>>``) in all docstrings of the Python files below a folder."""
    parser = doctest.DocTestParser()
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return sum(
        len(parser.get_examples(ast.get_docstring(node) or ""))
        for path in sorted(source.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, documented)
    )


# --- the parts ---


class BuildError(Exception):
    """The documentation has a fault; the message says which."""


def _run(*command: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        raise BuildError(f"`python -m {' '.join(command)}` failed with {done.returncode}; its messages are above")


def _sphinx(builder: str, folder: str) -> None:
    _run("sphinx", "-b", builder, "-q", "-W", "--keep-going", "-j", "2", "-d", str(WORK / "doctrees"),
         str(DOCS / "api"), str(WORK / folder))  # fmt: skip


def build_api() -> str:
    """The API in HTML, with every public name."""
    _sphinx("html", "api")
    sys.path[:0] = [str(DOCS), str(DOCS / "api"), str(ROOT / "src")]
    from hooks import read_inventory
    from package_pages import spots

    names = [f"{module.__name__}.{name}" for _, module, name, _ in spots()]
    missing = missing_names(names, read_inventory((WORK / "api" / "objects.inv").read_bytes()))
    if missing:
        raise BuildError("no place in the API: " + ", ".join(missing))
    return f"{len(names)} public names"


def run_examples() -> str:
    """Every example of every docstring, once."""
    _sphinx("doctest", "doctest")
    output = (WORK / "doctest" / "output.txt").read_text(encoding="utf-8")
    run = sum(int(count) for count in re.findall(r"^ +(\d+) tests?$", output, re.MULTILINE))
    written = count_examples(ROOT / "src")
    if run < written:
        raise BuildError(f"{written} examples are written in docstrings, but {run} stand on pages and were run")
    return f"{run} lines of examples"


def measure_coverage() -> str:
    """Nothing public without a text."""
    _sphinx("coverage", "coverage")
    report = (WORK / "coverage" / "python.txt").read_text(encoding="utf-8")
    total = re.search(r"\| TOTAL +\| ([\d.]+)%", report)
    if total is None or float(total[1]) < 100:
        raise BuildError(f"the API is not covered:\n{report}")
    return f"{total[1]} %"


def _stay_offline() -> None:
    """Take out the addresses that the theme would load diagrams and help for old browsers from: we need neither."""
    for path in (SITE / "assets").rglob("*.map"):
        path.unlink()
    for path in (SITE / "assets" / "javascripts").rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"//# sourceMappingURL=\S+", "", re.sub(r"https://unpkg\.com/[^\"'` ]*", "about:blank", text))
        path.write_text(text, encoding="utf-8")


def build_guide() -> str:
    """The guide, then the API below it."""
    # not --quiet: mkdocs would leave out its warnings before strict mode counts them
    _run("mkdocs", "build", "--strict", "--config-file", str(DOCS / "mkdocs.yml"))
    _stay_offline()
    left_out = shutil.ignore_patterns(".buildinfo", ".doctrees")
    shutil.copytree(WORK / "api", SITE / "api", ignore=left_out, dirs_exist_ok=True)
    return str(SITE.relative_to(ROOT))


def _pages() -> Iterator[tuple[str, Page]]:
    for path in sorted(SITE.rglob("*.html")):
        if path.name != "404.html":  # served at any address, so its links are absolute
            yield path.relative_to(SITE).as_posix(), read_page(path.read_text(encoding="utf-8"))


def check_links() -> str:
    """Every link within the site."""
    pages = dict(_pages())
    files = {path.relative_to(SITE).as_posix() for path in SITE.rglob("*") if path.is_file()}
    faults = broken_links(pages, files) + [f"{fault} (from a network)" for fault in fetched_from_outside(pages)]
    if faults:
        raise BuildError("links that lead nowhere:\n" + "\n".join(faults))
    return f"{sum(len(page.links) for page in pages.values())} links of {len(pages)} pages"


PARTS = {
    "API": build_api,
    "examples": run_examples,
    "coverage": measure_coverage,
    "guide": build_guide,
    "links": check_links,
}


def main() -> int:
    """Build everything from nothing; 0 if all is well."""
    begun = time.monotonic()
    shutil.rmtree(WORK, ignore_errors=True)
    for name, part in PARTS.items():
        start = time.monotonic()
        try:
            result = part()
        except BuildError as error:
            print(f"docs: {name}: {error}", file=sys.stderr)
            return 1
        print(f"{name:<9} {time.monotonic() - start:5.0f} s  {result}", flush=True)
    print(f"{'all':<9} {time.monotonic() - begun:5.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
