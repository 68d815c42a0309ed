"""A zip of stored members, the only kind read or written here.

The reader accepts nothing that it does not need: no compression, no encryption, no members but
those asked for, none that overlap, no trailing bytes.
Source: PKWARE APPNOTE 6.3.9, sections 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from oarlock.errors import InvalidModel

PAGE = 4096
_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END = struct.Struct("<IHHHHIIH")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_FULL = 0xFFFFFFFF
_EPOCH = 0x21  # 1 January 1980: the same program gives the same bytes
_UTF8 = 0x800
_PADDING = 0xD935  # id of an extra field that aligns


@dataclass(frozen=True)
class Member:
    """Where the data of a member is in the file, bytes."""

    name: str
    begin: int
    end: int


@dataclass(frozen=True)
class _Written:
    name: bytes
    crc: int
    size: int
    offset: int


def write(file: BinaryIO, members: Iterable[tuple[str, Iterable[bytes | memoryview]]]) -> None:
    """Write stored members, the data of each at a page boundary."""
    written = [_write_member(file, name.encode(), pieces) for name, pieces in members]
    start = file.tell()
    for member in written:
        _write_central(file, member)
    _write_end(file, len(written), start, file.tell() - start)


def _write_member(file: BinaryIO, name: bytes, pieces: Iterable[bytes | memoryview]) -> _Written:
    offset = file.tell()
    header = _LOCAL.size + len(name) + 20
    padding = -(offset + header + 4) % PAGE
    file.write(b"\0" * (header + 4 + padding))
    crc = size = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
        size += file.write(piece)
    end = file.tell()
    file.seek(offset)
    extra = struct.pack("<HHQQ", 1, 16, size, size) + struct.pack("<HH", _PADDING, padding)
    file.write(
        _LOCAL.pack(
            0x04034B50, 45, _UTF8, 0, 0, _EPOCH, crc, _FULL, _FULL, len(name), len(extra) + padding
        )
    )
    file.write(name + extra)
    file.seek(end)
    return _Written(name, crc, size, offset)


def _write_central(file: BinaryIO, m: _Written) -> None:
    extra = struct.pack("<HHQQQ", 1, 24, m.size, m.size, m.offset)
    file.write(
        _CENTRAL.pack(
            0x02014B50, 45, 45, _UTF8, 0, 0, _EPOCH, m.crc, _FULL, _FULL,
            len(m.name), len(extra), 0, 0, 0, 0, _FULL,
        )
    )  # fmt: skip
    file.write(m.name + extra)


def _write_end(file: BinaryIO, count: int, start: int, size: int) -> None:
    position = file.tell()
    file.write(_END64.pack(0x06064B50, 44, 45, 45, 0, 0, count, count, size, start))
    file.write(_LOCATOR.pack(0x07064B50, 0, position, 1))
    file.write(_END.pack(0x06054B50, 0, 0, count, count, min(size, _FULL), min(start, _FULL), 0))


def read(data: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Exactly the members ``names``, as views of ``data`` (uint8).  Raises: InvalidModel."""
    start, size, count = _directory(data)
    if count != len(names):
        raise InvalidModel(f"{count} members, expected {len(names)}: {', '.join(names)}")
    members: list[Member] = []
    position = start
    for _ in range(count):
        member, position = _member(data, position, start + size)
        if member.name not in names or any(member.name == m.name for m in members):
            raise InvalidModel(f"unexpected member {member.name[:80]!r}")
        members.append(member)
    if position != start + size:
        raise InvalidModel("bytes after the last entry of the directory")
    _check_disjoint(members, start)
    return {m.name: data[m.begin : m.end] for m in members}


def _unpack(shape: struct.Struct, data: np.ndarray, offset: int, what: str) -> tuple[int, ...]:
    if offset < 0 or offset + shape.size > len(data):
        raise InvalidModel(f"truncated: {what} at byte {offset} of {len(data)}")
    return shape.unpack(data[offset : offset + shape.size].tobytes())


def _directory(data: np.ndarray) -> tuple[int, int, int]:
    """Offset, size and number of entries of the central directory."""
    at = len(data) - _END.size
    if at < 0:
        raise InvalidModel(f"not an .oar file: {len(data)} bytes are too few")
    mark, disk, first, here, count, size, start, comment = _unpack(_END, data, at, "end record")
    if mark != 0x06054B50 or disk or first or here != count or comment:
        raise InvalidModel("not an .oar file: no end record of a zip archive at its end")
    end = at
    if at >= _LOCATOR.size:
        mark, disk, position, _disks = _unpack(_LOCATOR, data, at - _LOCATOR.size, "locator")
        if mark == 0x07064B50:
            end = position
            start, size, count = _directory64(data, position, at - _LOCATOR.size)
    if start + size != end:
        raise InvalidModel(f"directory at {start}, {size} bytes, does not end at byte {end}")
    return start, size, count


def _directory64(data: np.ndarray, position: int, end: int) -> tuple[int, int, int]:
    fields = _unpack(_END64, data, position, "zip64 end record")
    mark, length, _, _, disk, first, here, count, size, start = fields
    if mark != 0x06064B50 or length != 44 or disk or first or here != count:
        raise InvalidModel("damaged zip64 end record")
    if position + _END64.size != end:
        raise InvalidModel("bytes between the end records")
    return start, size, count


def _member(data: np.ndarray, at: int, end: int) -> tuple[Member, int]:
    """The member whose directory entry is at ``at``, and where the next entry is."""
    fields = _unpack(_CENTRAL, data, at, "directory entry")
    mark, _, _, flags, method, _, _, _, packed, size, n, e, c, disk, _, _, offset = fields
    if mark != 0x02014B50 or disk or c:
        raise InvalidModel(f"damaged directory entry at byte {at}")
    if at + _CENTRAL.size + n + e > end:
        raise InvalidModel(f"directory entry at byte {at} passes its end")
    name_at = at + _CENTRAL.size
    raw = data[name_at : name_at + n].tobytes()
    extra = data[name_at + n : name_at + n + e].tobytes()
    name = raw.decode("ascii", "replace")
    size, packed, offset = _widen(extra, (size, packed, offset))
    if method or packed != size or flags & ~_UTF8:
        raise InvalidModel(
            f"member {name[:80]!r} is compressed or encrypted; only stored ones are read"
        )
    return _locate(data, raw, name, offset, size, flags), name_at + n + e


def _widen(extra: bytes, values: Sequence[int]) -> list[int]:
    """Replace fields that are full by those of the zip64 extra field."""
    wide = _zip64(extra)
    found = []
    for value in values:
        if value == _FULL:
            if len(wide) < 8:
                raise InvalidModel("a size is missing in the zip64 field")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(value)
    return found


def _zip64(extra: bytes) -> bytes:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _locate(data: np.ndarray, raw: bytes, name: str, offset: int, size: int, flags: int) -> Member:
    fields = _unpack(_LOCAL, data, offset, f"member {name[:80]!r}")
    mark, _, local_flags, method, _, _, _, _, _, n, e = fields
    begin = offset + _LOCAL.size + n + e
    if mark != 0x04034B50 or method or local_flags != flags:
        raise InvalidModel(f"member {name[:80]!r}: damaged local header")
    if data[offset + _LOCAL.size : offset + _LOCAL.size + n].tobytes() != raw:
        raise InvalidModel(f"member {name[:80]!r}: another name in its local header")
    if begin + size > len(data):
        raise InvalidModel(
            f"truncated: member {name[:80]!r} ends at byte {begin + size} of {len(data)}"
        )
    return Member(name, begin, begin + size)


def _check_disjoint(members: list[Member], limit: int) -> None:
    end = 0
    for m in sorted(members, key=lambda m: (m.begin, m.end)):
        if m.begin < end:
            raise InvalidModel(f"member {m.name!r} overlaps another")
        end = m.end
    if end > limit:
        raise InvalidModel("a member overlaps the directory")
