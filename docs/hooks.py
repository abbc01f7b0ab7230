"""What mkdocs does for this project beside rendering Markdown: ``api:`` links, and pages from outside of ``docs/``.

``[WSConv2d](api:ganblocks.layers.WSConv2d)`` in a page leads to that name in the API, which Sphinx has built before;
its ``objects.inv`` says where. ``[the API](api:)`` leads to its first page. An unknown name is a warning, so an error
in strict mode. All but the last part of this file are plain functions that know nothing of mkdocs.
"""

import html
import logging
import posixpath
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.nav import Navigation
    from mkdocs.structure.pages import Page

__all__ = ["api_address", "outside_links", "read_inventory", "resolve_links"]

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
INVENTORY = ROOT / "build" / "docs" / "api" / "objects.inv"
API = "api"  # the API's folder on the site
OUTSIDE = ("CHANGELOG.md", "benchmarks/results/*.md")  # files of the repository that are pages too

_HEADER = b"# Sphinx inventory version 2\n"
_LINE = re.compile(r"(\S+)\s+([^\s:]+):(\S+)\s+-?\d+\s+(\S+)\s+.*")
_API_LINK = re.compile(r'(<a\b[^>]*?\bhref=")api:([^"]*)(")')
_OUTWARD = re.compile(r"(\]\()((?:\.\./)+)([^)\s#]+)")
_log = logging.getLogger("mkdocs.hooks")


def read_inventory(data: bytes) -> dict[str, str]:
    """The Python names of a Sphinx inventory (``objects.inv``, version 2), with addresses below the API's folder.

    Args:
        data: The file: four lines of text, the first of them the version, then lines compressed by zlib.

    Raises:
        ValueError: If this is no such file.
    """
    lines = data.split(b"\n", 4)
    if not data.startswith(_HEADER) or len(lines) < 5:
        raise ValueError("not a Sphinx inventory of version 2")
    try:
        text = zlib.decompress(lines[4]).decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"a damaged Sphinx inventory: {error}") from error
    addresses = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a line of a Sphinx inventory: {line!r}")
        name, domain, _, address = match.groups()
        if domain == "py":
            addresses[name] = address[:-1] + name if address.endswith("$") else address
    return addresses


def api_address(name: str, inventory: dict[str, str]) -> str | None:
    """Where a name stands, from the root of the site; the API's first page for an empty name, ``None`` if unknown."""
    if not name:
        return f"{API}/index.html"
    return f"{API}/{inventory[name]}" if name in inventory else None


def resolve_links(page: str, inventory: dict[str, str], page_url: str) -> tuple[str, list[str]]:
    """Lead the ``api:`` links of a rendered page to the API.

    Code is safe, because only the ``href`` of an ``<a>`` is looked at.

    Args:
        page: HTML.
        inventory: From `read_inventory`.
        page_url: Address of the page from the root of the site, such as ``guide/gans.html``.

    Returns:
        The HTML, and the unknown names in order; their links are left as they were.
    """
    unknown = []

    def replaced(match: re.Match[str]) -> str:
        name = html.unescape(match[2])
        address = api_address(name, inventory)
        if address is None:
            unknown.append(name)
            return match[0]
        relative = posixpath.relpath(address, posixpath.dirname(page_url) or ".")
        return match[1] + html.escape(relative) + match[3]

    return _API_LINK.sub(replaced, page), unknown


def outside_links(markdown: str, page_path: str, pages: set[str]) -> str:
    """Lead links out of ``docs/`` to the pages that were made of those files.

    In the repository ``docs/guide/a.md`` links to ``../../benchmarks/results/b.md``; on the site both stand below the
    same root, so one step up is left out.

    Args:
        markdown: Text of the page.
        page_path: Its path below ``docs/``, such as ``guide/a.md``.
        pages: Paths of those files from the root of the repository, such as ``benchmarks/results/b.md``.
    """
    here = posixpath.dirname(page_path)

    def replaced(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", here, match[2] + match[3]))
        return match[1] + posixpath.relpath(target, here or ".") if target in pages else match[0]

    return _OUTWARD.sub(replaced, markdown)


# --- what mkdocs calls ---

_inventory: dict[str, str] = {}
_outside: set[str] = set()


def on_config(config: "MkDocsConfig", **_: Any) -> "MkDocsConfig":
    """Take the pages from the folder of ``mkdocs.yml``, which mkdocs does not let its file say; read the inventory."""
    from mkdocs.exceptions import PluginError

    config.docs_dir = str(DOCS)
    if not INVENTORY.is_file():
        raise PluginError(f"{INVENTORY} is missing: `python docs/build.py` builds the API first")
    _inventory.clear()
    _inventory.update(read_inventory(INVENTORY.read_bytes()))
    return config


def on_files(files: "Files", config: "MkDocsConfig", **_: Any) -> "Files":
    """Add the pages from outside."""
    from mkdocs.structure.files import File, InclusionLevel

    _outside.clear()
    _outside.update(path.relative_to(ROOT).as_posix() for pattern in OUTSIDE for path in ROOT.glob(pattern))
    for path in sorted(_outside):
        level = InclusionLevel.INCLUDED if path in str(config.nav) else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path), inclusion=level))
    return files


def on_nav(nav: "Navigation", **_: Any) -> "Navigation":
    """Resolve the ``api:`` links of the navigation."""
    from mkdocs.structure.nav import Link

    for item in nav.items:
        if isinstance(item, Link) and item.url.startswith("api:"):
            address = api_address(item.url.removeprefix("api:"), _inventory)
            if address is None:
                _log.warning("mkdocs.yml: the API has no %r", item.url)
            else:
                item.url = address
    return nav


def on_page_markdown(markdown: str, page: "Page", **_: Any) -> str:
    """Keep links to the pages from outside."""
    return outside_links(markdown, page.file.src_uri, _outside)


def on_page_content(html: str, page: "Page", **_: Any) -> str:
    """Resolve the ``api:`` links of a page."""
    resolved, unknown = resolve_links(html, _inventory, page.file.url)
    for name in unknown:
        _log.warning("%s: the API has no %r", page.file.src_uri, name)
    return resolved
