"""A downloaded file is whole and the right one, or it is not there."""

import hashlib
import http.server
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pooch", reason="downloads need the extra `examples`")

from ganblocks.data.download import fetch
from ganblocks.errors import DataError, SecurityError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASH = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the path says; counts what is asked."""

    asked: list[str]
    hold: threading.Event
    half_sent: threading.Event

    def log_message(self, *args: object) -> None:
        pass

    def head(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        match self.path.split("?")[0]:
            case "/short":
                self.head(Content_Length=str(len(CONTENT)))
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
            case "/short-untold":
                self.head()
                self.wfile.write(CONTENT[: len(CONTENT) // 2])
            case "/endless":
                self.head()
                self.pour()
            case "/claims":
                self.head(Content_Length=str(2**40))
                self.pour()
            case "/odd-length":
                self.head(Content_Length="many")
                self.wfile.write(CONTENT)
            case "/packed":
                self.head(Content_Encoding="gzip")
                self.wfile.write(CONTENT)
            case "/hangs":
                self.head(Content_Length=str(len(CONTENT)))
                self.wfile.write(CONTENT[:5000])
                self.wfile.flush()
                self.half_sent.set()
                self.hold.wait(30)
            case "/slow":
                self.hold.wait(30)
                self.head(Content_Length=str(len(CONTENT)))
                self.wfile.write(CONTENT)
            case "/no-http":
                self.wfile.write(b"what is this\r\n\r\n")
            case "/to":
                self.head(302, Location=self.path.split("?", 1)[1], Content_Length="0")
            case "/circle":
                self.head(302, Location="/circle", Content_Length="0")
            case "/none":
                self.send_error(404)
            case "/broken":
                self.send_error(500)
            case _:
                self.head(Content_Length=str(len(CONTENT)))
                self.wfile.write(CONTENT)

    def pour(self) -> None:
        try:
            while not self.hold.is_set():
                self.wfile.write(bytes(2**16))
        except OSError:
            pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who hangs up is no error of the server."""


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> type[Handler]:
    monkeypatch.setenv("NO_PROXY", "*")
    return type("OwnHandler", (Handler,), {"asked": [], "hold": threading.Event(), "half_sent": threading.Event()})


@pytest.fixture
def site(handler: type[Handler]) -> Iterator[str]:
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        handler.hold.set()
        server.shutdown()
        thread.join()


def get(url: str, path: Path | None, sha256: str = HASH, **options: object) -> Path:
    return fetch(url, sha256=sha256, path=path, allow_loopback=True, **options)  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    """What there is but locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_a_file_comes_under_its_name_once(tmp_path: Path, site: str, handler: type[Handler]) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    assert get(f"{site}/a", path) == path
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["a.bin"]
    assert get(f"{site}/a", path, HASH.upper()) == path
    assert handler.asked == ["/a"]


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX systems")
def test_folders_that_are_made_are_ones_own(tmp_path: Path, site: str) -> None:
    get(f"{site}/a", tmp_path / "new" / "folder" / "a.bin")
    for folder in (tmp_path / "new", tmp_path / "new" / "folder"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("page", "options", "words"),
    [
        ("/a", {"sha256": OTHER}, f"has the SHA-256 {HASH}, but must have {OTHER}"),
        ("/short", {}, "could not be downloaded"),
        ("/short-untold", {}, "has the SHA-256"),
        ("/a", {"max_bytes": len(CONTENT) - 1}, f"larger than `max_bytes`, which is {len(CONTENT) - 1}"),
        ("/endless", {"max_bytes": 10**6}, "larger than `max_bytes`"),
        ("/claims", {"max_bytes": 10**6}, "larger than `max_bytes`"),
        ("/odd-length", {}, "could not be downloaded"),
        ("/packed", {}, "is sent as gzip"),
        ("/hangs", {"timeout": 0.2}, "could not be downloaded"),
        ("/slow", {"timeout": 0.2}, "could not be downloaded"),
        ("/no-http", {}, "could not be downloaded"),
        ("/circle", {}, "could not be downloaded.*redirects"),
        ("/none", {}, "could not be downloaded.*404"),
        ("/broken", {}, "could not be downloaded.*500"),
        ("/to?/none", {}, "could not be downloaded.*404"),
    ],
)
def test_what_is_not_the_file_leaves_nothing(
    tmp_path: Path, site: str, page: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        get(site + page, tmp_path / "a.bin", **options)  # type: ignore[arg-type]
    assert left(tmp_path) == []
    get(f"{site}/a", tmp_path / "a.bin")  # and the next attempt is as if there had been none
    assert left(tmp_path) == ["a.bin"]


def test_a_size_at_the_limit_is_allowed(tmp_path: Path, site: str) -> None:
    assert get(f"{site}/a", tmp_path / "a.bin", max_bytes=len(CONTENT)).read_bytes() == CONTENT


def test_nobody_there_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(DataError, match="could not be downloaded"):
        get("http://127.0.0.1:1/a", tmp_path / "a.bin")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "https:///a",
        "http://127.0.0.1.example.org/a",
        "http://localhost@example.org/a",
        "https://[::1/a",
        "data:text/plain,a",
        "",
    ],
)
def test_an_address_without_https_is_refused_before_anything_is_sent_or_made(tmp_path: Path, url: str) -> None:
    with pytest.raises(SecurityError, match=r"is refused: only https|is no address"):
        get(url, tmp_path / "new" / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_without_being_asked_to_http_is_refused_on_this_machine_too(
    tmp_path: Path, site: str, handler: type[Handler]
) -> None:
    with pytest.raises(SecurityError, match="only https"):
        fetch(f"{site}/a", sha256=HASH, path=tmp_path / "a.bin")
    assert handler.asked == []


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://example.org/a", "http://example.org/a", "//example.org/a", "gopher://x/"]
)
def test_a_redirect_to_another_scheme_or_another_machine_without_https_is_refused(
    tmp_path: Path, site: str, target: str
) -> None:
    with pytest.raises(SecurityError, match="only https"):
        get(f"{site}/to?{target}", tmp_path / "a.bin")
    assert left(tmp_path) == []


def test_a_redirect_on_one_site_is_followed(tmp_path: Path, site: str) -> None:
    assert get(f"{site}/to?/a", tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_file_that_is_there_is_hashed_each_time(tmp_path: Path, site: str, handler: type[Handler]) -> None:
    path = get(f"{site}/a", tmp_path / "a.bin")
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DataError, match=r"a\.bin is there, but is not the file"):
        get(f"{site}/a", path)
    assert path.read_bytes() == CONTENT[:-1] + b"x"  # it may be somebody's own
    assert handler.asked == ["/a"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the cache is elsewhere")
def test_without_a_path_the_file_lies_in_a_cache_that_nobody_else_may_enter_and_is_repaired_there(
    cache: Path, site: str, handler: type[Handler]
) -> None:
    path = get(f"{site}/d/..%2Fsome%20set.zip?x=1", None)
    assert path.name == f"{HASH[:16]}-some_set.zip"
    assert path.parent.is_relative_to(cache / "cache" / "ganblocks")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.parent.chmod(0o777)
    path.write_bytes(b"something else")
    assert get(f"{site}/d/..%2Fsome%20set.zip?x=1", None) == path
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(handler.asked) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the cache is elsewhere")
def test_a_cache_of_another_user_is_refused(cache: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    get(f"{site}/a", None)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(SecurityError, match="belongs to another user"):
        get(f"{site}/a", None)


@pytest.mark.skipif(os.name == "nt", reason="modes are those of POSIX systems")
def test_a_folder_in_which_everybody_may_write_is_refused(tmp_path: Path, site: str, handler: type[Handler]) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(SecurityError, match="every user may write"):
        get(f"{site}/a", tmp_path / "open" / "a.bin")
    assert handler.asked == []
    assert left(tmp_path) == []


def test_a_path_that_cannot_be_is_a_data_error(tmp_path: Path, site: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.bin", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(DataError):
            get(f"{site}/a", path)


def test_a_full_disk_is_a_data_error_and_leaves_nothing(
    tmp_path: Path, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        get(f"{site}/a", tmp_path / "a.bin")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "abc"}, "`sha256`"),
        ({"sha256": HASH[:-1] + "g"}, "`sha256`"),
        ({"sha256": ""}, "`sha256`"),
        ({"max_bytes": 0}, "`max_bytes`"),
        ({"timeout": 0.0}, "`timeout`"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        get("https://example.org/a", tmp_path / "a.bin", **change)  # type: ignore[arg-type]


def test_the_hash_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sha256"):
        fetch("https://example.org/a", path=tmp_path / "a.bin")  # type: ignore[call-arg]


def test_several_at_once_download_it_once(tmp_path: Path, site: str, handler: type[Handler]) -> None:
    found: list[bytes] = []

    def work() -> None:
        found.append(get(f"{site}/slow", tmp_path / "a.bin").read_bytes())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    handler.hold.set()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert handler.asked == ["/slow"]
    assert left(tmp_path) == ["a.bin"]


CHILD = """
import sys
from ganblocks.data.download import fetch
fetch(sys.argv[1], sha256=sys.argv[2], path=sys.argv[3], allow_loopback=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_process_killed_in_the_middle_leaves_nothing_under_the_name_and_nothing_that_stays(
    tmp_path: Path, site: str, handler: type[Handler]
) -> None:
    path = tmp_path / "a.bin"
    child = subprocess.Popen([sys.executable, "-c", CHILD, f"{site}/hangs", HASH, str(path)])
    try:
        assert handler.half_sent.wait(120)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not path.exists()
    get(f"{site}/a", path)  # the dead process holds no lock
    assert path.read_bytes() == CONTENT
    assert left(tmp_path) == ["a.bin"]


def test_without_pooch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"ganblocks\[examples\]"):
        get("https://example.org/a", tmp_path / "a.bin")


def test_nothing_is_printed(tmp_path: Path, site: str, capfd: pytest.CaptureFixture[str]) -> None:
    get(f"{site}/a", tmp_path / "a.bin")
    assert capfd.readouterr() == ("", "")
