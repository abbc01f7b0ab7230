"""Archives made to hurt, byte by byte: what no honest program writes.

`crafted_zips` gives each by name, with what must come of it: "right" (the images are those of `IMAGES`), "one" (the
image is the first of them), "refused" (``SecurityError`` when it is opened), "damaged" (``DataError`` or
``SecurityError`` when it is opened), or "image" (it opens, and its first image is an ``ImageDecodeError``).
"""

import bz2
import dataclasses
import io
import lzma
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

__all__ = ["IMAGES", "Member", "crafted_zips", "encoded", "lzma_member", "packed", "written"]


def encoded(level: int, side: int = 6) -> bytes:
    """A small PNG of one level of grey."""
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


IMAGES = {"a.png": encoded(10), "b.png": encoded(200)}


def packed(content: bytes) -> bytes:
    """As deflate packs."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@dataclasses.dataclass
class Member:
    """A member, and what the archive says about it; None = the truth."""

    name: bytes
    content: bytes = b""  # as it lies in the archive
    method: int = 0
    size: int | None = None
    packed_size: int | None = None
    checksum: int | None = None
    flags: int = 0
    attributes: int = 0
    offset: int | None = None
    local_name: bytes | None = None
    local_extra: bytes = b""
    extra: bytes = b""
    is_there: bool = True  # whether a local header and the content are written

    def claims(self) -> tuple[int, int, int]:
        """(checksum, packed size, size)."""
        return (
            zlib.crc32(self.content) if self.checksum is None else self.checksum,
            len(self.content) if self.packed_size is None else self.packed_size,
            len(self.content) if self.size is None else self.size,
        )


def deflated(name: bytes, content: bytes, **claims: int) -> Member:
    """A member packed by deflate, the truth unless ``claims`` say otherwise."""
    truth = {"size": len(content), "checksum": zlib.crc32(content)}
    return Member(name, packed(content), 8, **(truth | claims))


def written(
    members: list[Member],
    *,
    count: int | None = None,
    directory_size: int | None = None,
    directory_offset: int | None = None,
    comment: bytes = b"",
    before: bytes = b"",
    tail: bytes | None = None,
) -> bytes:
    """The archive of these members, saying what it is told to say (APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.16)."""
    body, offsets = bytearray(before), []
    for member in members:
        offsets.append(len(body) - len(before))
        if member.is_there:
            name = member.name if member.local_name is None else member.local_name
            claims = [min(claim, 2**32 - 1) for claim in member.claims()]
            lengths = (len(name), len(member.local_extra))
            body += struct.pack("<4s5H3I2H", b"PK\3\4", 20, member.flags, member.method, 0, 33, *claims, *lengths)
            body += name + member.local_extra + member.content
    start = len(body) - len(before)
    directory = bytearray()
    for member, place in zip(members, offsets, strict=True):
        claims = [min(claim, 2**32 - 1) for claim in member.claims()]
        offset = place if member.offset is None else member.offset
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 0x314, 20, member.flags, member.method, 0, 33, *claims,
                                 len(member.name), len(member.extra), 0, 0, 0, member.attributes, offset)  # fmt: skip
        directory += member.name + member.extra
    end = struct.pack(
        "<4s4H2IH",
        b"PK\5\6",
        0,
        0,
        (len(members) if count is None else count) & 0xFFFF,
        (len(members) if count is None else count) & 0xFFFF,
        len(directory) if directory_size is None else directory_size,
        start if directory_offset is None else directory_offset,
        len(comment),
    )
    return bytes(body + directory) + (end + comment if tail is None else tail)


def honest() -> list[Member]:
    return [Member(name.encode(), content) for name, content in IMAGES.items()]


def large(size: int, offset: int | None = None) -> bytes:
    """The extra field of ZIP64."""
    numbers = [size] if offset is None else [size, offset]
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def end_of_zip64(directory_size: int, directory_offset: int, record_at: int) -> bytes:
    """The three records at the end of a large archive."""
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, directory_size, directory_offset)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, record_at, 1)
    return record + locator + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)


def overlapping(count: int) -> bytes:
    """Many names for one content."""
    kernel = packed(bytes(2**20))
    first = Member(b"0.png", kernel, 8, size=2**20, checksum=zlib.crc32(bytes(2**20)))
    others = [dataclasses.replace(first, name=b"%d.png" % i, offset=0, is_there=False) for i in range(1, count)]
    return written([first, *others])


def quoted() -> bytes:
    """Headers of later members inside the content of the first, in stored blocks of deflate."""
    inner = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 4, 4, 5, 0) + b"b.png" + b"abcd"
    block = b"\0" + struct.pack("<2H", len(inner), len(inner) ^ 0xFFFF) + inner + b"\3\0"
    first = Member(b"a.png", block, 8, size=len(inner), checksum=zlib.crc32(inner))
    return written([first, Member(b"b.png", b"abcd", offset=30 + 5 + 5, is_there=False)])


def extra_quoted() -> bytes:
    """The header of the second member inside the extra field of the first."""
    second = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 40, 40, 5, 0) + b"b.png"
    extra = struct.pack("<2H", 0x9999, len(second)) + second
    first = Member(b"a.png", bytes(40), local_extra=extra)
    return written([first, Member(b"b.png", bytes(40), offset=30 + 5 + 4, is_there=False)])


def quine_like() -> bytes:
    """An archive in an archive in an archive, with images beside each."""
    content = b""
    for _ in range(4):
        content = written([*honest(), Member(b"r.zip", content)])
    return content


def lzma_member(name: bytes, content: bytes, size: int | None = None, dictionary: int = 2**16) -> Member:
    options = [{"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "mode": lzma.MODE_FAST, "mf": lzma.MF_HC3}]
    raw = lzma.compress(content, lzma.FORMAT_RAW, filters=options)
    properties = struct.pack("<BI", 0x5D, dictionary)
    body = struct.pack("<BBH", 9, 4, len(properties)) + properties + raw
    return Member(name, body, 14, size=len(content) if size is None else size, checksum=zlib.crc32(content), flags=2)


def crafted_zips() -> Iterator[tuple[str, bytes, str]]:
    """(name, bytes, what must come of it)."""
    image, other = IMAGES["a.png"], Member(b"b.png", IMAGES["b.png"])
    zeros = bytes(50 * 2**20)
    bomb, checksum = packed(zeros), zlib.crc32(zeros)

    # Honest, but odd.
    yield "plain", written(honest()), "right"
    yield "deflated", written([deflated(n.encode(), c) for n, c in IMAGES.items()]), "right"
    yield "lzma", written([lzma_member(n.encode(), c) for n, c in IMAGES.items()]), "right"
    yield "with a comment that looks like an end", written(honest(), comment=b"PK\5\7 not the end"), "right"
    yield "behind a program", written(honest(), before=b"MZ" + bytes(1000)), "right"
    yield "absolute names", written([Member(b"/a.png", image), Member(b"//b.png", other.content)]), "right"
    yield "backslashes", written([Member(b".\\a.png", image), other]), "right"
    yield "with an archive in it", quine_like(), "right"
    yield "with a bomb that is no image", written([*honest(), Member(b"x.txt", bomb, 8, size=2**32 - 2)]), "right"
    yield "a link beside", written([*honest(), Member(b"c.png", b"/etc/passwd", attributes=0o120777 << 16)]), "right"
    yield "a device beside", written([*honest(), Member(b"c.png", attributes=0o060666 << 16)]), "right"
    yield "a pipe beside", written([*honest(), Member(b"c.png", attributes=0o010666 << 16)]), "right"
    yield "a folder without a slash", written([*honest(), Member(b"c.png", attributes=0o040755 << 16)]), "right"
    yield "a member that says too little", written([Member(b"a.png", packed(image + zeros), 8, size=len(image),
                                                    checksum=zlib.crc32(image)), other]), "right"  # fmt: skip
    yield "wrong count", written(honest(), count=77), "right"
    yield "a comment as long as can be", written(honest(), comment=b"x" * 65535), "right"

    # Names.
    for name in (b"../a.png", b"x/../../a.png", b"..\\a.png", b"/../a.png", b"x\\..\\a.png"):
        yield f"name {name!r}", written([Member(name, image), other]), "refused"
    yield "NUL in a name", written([Member(b"a.png\0.txt", image), other]), "refused"
    yield "a name that is no UTF-8", written([Member(b"\xff\xfe.png", image, flags=0x800), other]), "damaged"
    yield "device name", written([Member(b"CON.png", image)]), "one"
    yield "name of 65,000 bytes", written([Member(b"x" * 65000 + b".png", image)]), "one"
    yield "drive letter", written([Member(b"C:a.png", image)]), "one"
    yield "name with controls", written([Member(b"\x1b[2J\r\n.png", image)]), "one"

    # Claims.
    yield "ratio", written([Member(b"a.png", bomb, 8, size=1200 * len(bomb), checksum=checksum), other]), "refused"
    yield "4 GiB in a byte", written([Member(b"a.png", b"x", size=2**32 - 2), other]), "refused"
    yield "exabytes", written([Member(b"a.png", b"x", size=2**32 - 1, extra=large(2**62)), other]), "refused"
    yield "an extra field that ends too early", written(
        [Member(b"a.png", b"x", size=2**32 - 1, extra=b"\1\0\4\0abcd")]), "damaged"  # fmt: skip
    yield "an extra field longer than it is", written([Member(b"a.png", b"x", extra=b"\1\0\xff\xff")]), "damaged"
    yield "overlapping", overlapping(100), "refused"
    yield "quoted", quoted(), "refused"
    yield "quoted in an extra field", extra_quoted(), "refused"
    yield "two names of one place", written([Member(b"a.png", image), Member(b"b.png", image, offset=0)]), "refused"
    yield "a member that reaches into the directory", written(
        [Member(b"a.png", image, packed_size=len(image) + 99)]), "refused"  # fmt: skip
    yield "a place behind the end", written([Member(b"a.png", image, offset=10**9)]), "refused"
    far = Member(b"a.png", image, size=2**32 - 1, offset=2**32 - 1, extra=large(len(image), 2**63))
    yield "a place behind all numbers", written([far]), "refused"

    # The directory.
    plain = written(honest())
    yield "directory longer than the file", written(honest(), directory_size=2**31), "damaged"
    yield "directory before the file", written(honest(), directory_offset=2**31), "damaged"
    yield "directory of zero bytes", written(honest(), directory_size=0), "damaged"
    yield "directory cut", written(honest(), directory_size=60), "damaged"
    yield "no end", plain[:-22], "damaged"
    yield "end cut", plain[:-5], "damaged"
    yield "two halves", plain[len(plain) // 2 :], "damaged"
    yield "zip64 directory of exabytes", written(honest(), tail=end_of_zip64(2**62, 0, 0)), "damaged"
    yield "zip64 directory of all bytes", written(honest(), tail=end_of_zip64(len(plain), 0, 0)), "damaged"

    # The content.
    yield "checksum", written([Member(b"a.png", image, checksum=1)]), "image"
    yield "shorter than it says", written([Member(b"a.png", packed(image), 8, size=len(image) + 9)]), "image"
    yield "another name in front", written([Member(b"a.png", image, local_name=b"z.png")]), "image"
    yield "no header in front", written([Member(b"a.png", image), other]).replace(b"PK\3\4", b"PK\3\5", 1), "image"
    yield "encrypted", written([Member(b"a.png", image, flags=1)]), "image"
    yield "strongly encrypted", written([Member(b"a.png", image, flags=0x41)]), "image"
    yield "bzip2", written([Member(b"a.png", bz2.compress(image), 12, size=len(image),
                            checksum=zlib.crc32(image))]), "image"  # fmt: skip
    yield "unknown method", written([Member(b"a.png", image, 99)]), "image"
    yield "damaged deflate", written([Member(b"a.png", b"\xff" * 50, 8, size=500)]), "image"
    yield "damaged lzma", written([Member(b"a.png", b"\xff" * 50, 14, size=500)]), "image"
    yield "lzma of a giant dictionary", written([lzma_member(b"a.png", image, dictionary=2**16)]).replace(
        struct.pack("<BI", 0x5D, 2**16), struct.pack("<BI", 0x5D, 2**32 - 1)), "image"  # fmt: skip
    yield "a bomb that is an image by its name", written([Member(b"a.png", bomb, 8, size=len(zeros),
                                                          checksum=checksum)]), "image"  # fmt: skip
    yield "an archive that is an image by its name", written([Member(b"a.png", plain)]), "image"
    yield "nothing", written([Member(b"a.png")]), "image"
    yield "a text", written([Member(b"a.png", b"no image")]), "image"
