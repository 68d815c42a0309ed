"""``.oar`` files: a program as data, never code.

An uncompressed zip with page-aligned members: ``program.txt``, ``weights.safetensors`` (mapped, not
read) and ``meta.json`` (format version, producer, sha256 of the others, the program's meta).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oarlock.errors import InvalidModel, InvalidProgram, UserError
from oarlock.ir import container, tensors
from oarlock.ir.graph import Program
from oarlock.ir.parser import MAX_LINE, MAX_TEXT, parse
from oarlock.ir.verify import verify

FORMAT = 1
TEXT, WEIGHTS, META = "program.txt", "weights.safetensors", "meta.json"
MEMBERS = (TEXT, WEIGHTS, META)
MAX_META_BYTES = 1 << 23

PathLike = str | os.PathLike


@dataclass(frozen=True)
class Archive:
    """An opened ``.oar``: members mapped, meta checked, nothing else read."""

    path: Path
    members: Mapping[str, np.ndarray]
    meta: Mapping[str, Any]

    @property
    def text(self) -> bytes:
        return self.members[TEXT].tobytes()

    @property
    def text_digest(self) -> str:
        """sha256 of the text, computed: it is short."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def weights_digest(self) -> str:
        """sha256 of the weights as the file claims it; ``program`` checks the claim."""
        return self.meta["digests"][WEIGHTS]

    def program(self) -> Program:
        """The program, its digests checked.  Raises: InvalidModel."""
        for name in (TEXT, WEIGHTS):
            got = hashlib.sha256(self.members[name]).hexdigest()
            if got != self.meta["digests"][name]:
                expected = self.meta["digests"][name]
                raise self._invalid(f"{name} is damaged: expected sha256 {expected}, got {got}")
        try:
            program = parse(self.text.decode())
            program.params.update(tensors.read(self.members[WEIGHTS]))
            program.meta.update(self.meta["meta"])
            return verify(program)
        except (UserError, UnicodeDecodeError, RecursionError, MemoryError) as error:
            raise self._invalid(str(error) or type(error).__name__) from None

    def _invalid(self, why: str) -> InvalidModel:
        return InvalidModel(f"{self.path}: {why}")


def save(program: Program, path: PathLike) -> None:
    """Write ``program`` to ``path``, whole or not at all; the same program gives the same bytes.

    Raises: InvalidProgram; OSError.
    """
    verify(program)
    text = _encode_text(program)
    digests = {TEXT: hashlib.sha256(text).hexdigest(), WEIGHTS: weights_digest(program.params)}
    meta = _encode_meta(digests, program.meta)
    members = [(TEXT, [text]), (WEIGHTS, tensors.chunks(program.params)), (META, [meta])]
    _write_atomically(Path(path), members)


def load(path: PathLike) -> Program:
    """The program in a file; weights are mapped, read-only.

    Raises: InvalidModel when the file is damaged, truncated, oversized or hostile; OSError.
    """
    return open_archive(path).program()


def open_archive(path: PathLike) -> Archive:
    """Map the file and check its structure and meta.  Raises: InvalidModel, OSError."""
    path = Path(path)
    try:
        members = container.read(_map(path), MEMBERS)
        return Archive(path, members, _decode_meta(members[META], members[TEXT]))
    except InvalidModel as error:
        raise InvalidModel(f"{path}: {error}") from None


def weights_digest(params: Mapping[str, np.ndarray]) -> str:
    """sha256 of the weights member that ``params`` give."""
    digest = hashlib.sha256()
    for chunk in tensors.chunks(params):
        digest.update(chunk)
    return digest.hexdigest()


def _map(path: Path) -> np.ndarray:
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidModel("not a regular file")
    if facts.st_size == 0:
        raise InvalidModel("the file is empty")
    return np.asarray(np.memmap(path, np.uint8, "r"))


def _encode_text(program: Program) -> bytes:
    text = str(program)
    longest = max(map(len, text.split("\n")))
    if len(text) > MAX_TEXT or longest > MAX_LINE:
        raise InvalidProgram(
            f"the text has {len(text)} characters, {longest} in one line; the limits are {MAX_TEXT} "
            f"and {MAX_LINE}; make large constants params"
        )
    return text.encode()


def _encode_meta(digests: Mapping[str, str], meta: Mapping[str, Any]) -> bytes:
    from oarlock import __version__

    document = {
        "format": FORMAT, "producer": f"oarlock {__version__}", "digests": digests, "meta": meta,
    }  # fmt: skip
    try:
        return json.dumps(document, indent=1, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidProgram(f"program.meta is not JSON data: {error}") from None


def _decode_meta(data: np.ndarray, text: np.ndarray) -> Mapping[str, Any]:
    if len(data) > MAX_META_BYTES:
        raise InvalidModel(f"{META} of {len(data)} bytes, the limit is {MAX_META_BYTES}")
    if len(text) > MAX_TEXT:
        raise InvalidModel(f"{TEXT} of {len(text)} bytes, the limit is {MAX_TEXT}")
    meta = tensors.strict_json(data.tobytes(), META)
    if not isinstance(meta, dict) or type(meta.get("format")) is not int:
        raise InvalidModel(f"{META}: no format version")
    if meta["format"] != FORMAT:
        raise InvalidModel(f"format {meta['format']}; this version of oarlock reads {FORMAT}")
    digests = meta.get("digests")
    if not isinstance(digests, dict) or not all(
        _is_sha256(digests.get(n)) for n in (TEXT, WEIGHTS)
    ):
        raise InvalidModel(f"{META}: no sha256 of {TEXT} and {WEIGHTS}")
    if not isinstance(meta.get("meta"), dict):
        raise InvalidModel(f"{META}: no meta")
    return meta


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _write_atomically(
    path: Path, members: Iterable[tuple[str, Iterable[bytes | memoryview]]]
) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            container.write(file, members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
