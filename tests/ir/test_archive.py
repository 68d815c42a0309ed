"""``.oar`` files: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import oarlock
import oarlock.ops  # registers the records
from oarlock.errors import InvalidModel, InvalidProgram
from oarlock.ir import (
    Builder,
    Dim,
    Program,
    Signature,
    TensorType,
    archive,
    bf16,
    bool_,
    f32,
    i8,
    tensors,
)


def program(**changes) -> Program:
    b = Builder()
    x = b.input(TensorType(f32, (Dim("N", 1, 64), 3)), "x")
    b.graph.outputs = [b.mul(x, b.param("w", TensorType(f32, (3,))))]
    params = {
        "w": np.arange(3, dtype=np.float32),
        "bits": np.array([0x3F80], np.uint16),
        "mask": np.array([True, False]),
        "empty": np.empty((0, 3), np.int8),
        "scalar": np.float64(2.5).reshape(()),
    }
    return Program(b.graph, params, meta={"note": "é"}).replace(**changes)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.oar"
    program().save(path)
    return path


def test_round_trip(saved):
    loaded = oarlock.load(saved)
    assert loaded == program()
    assert loaded.same_weights(program())
    assert loaded.meta == {"note": "é"}
    assert not loaded.params["w"].flags.writeable


def test_same_program_same_bytes(saved, tmp_path):
    program().save(tmp_path / "again.oar")
    assert (tmp_path / "again.oar").read_bytes() == saved.read_bytes()


def test_any_zip_tool_reads_it(saved):
    with zipfile.ZipFile(saved) as z:
        assert z.testzip() is None
        assert set(z.namelist()) == set(archive.MEMBERS)
        for info in z.infolist():
            header = saved.read_bytes()[info.header_offset :][:30]
            start = info.header_offset + 30 + int.from_bytes(header[26:28], "little")
            assert (start + int.from_bytes(header[28:30], "little")) % 4096 == 0


def test_what_a_zip_tool_stores_is_read(saved, tmp_path):
    path = tmp_path / "repacked.oar"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))
    assert oarlock.load(path).same_weights(program())


def test_weights_are_safetensors(saved):
    safetensors = pytest.importorskip("safetensors.numpy")
    plain = {k: v for k, v in program().params.items() if v.dtype != np.uint16}
    data = b"".join(tensors.chunks(plain))
    loaded = safetensors.load(data)
    assert all(np.array_equal(loaded[k], v) for k, v in plain.items())


def test_save_is_whole_or_not(saved):
    before = saved.read_bytes()
    with pytest.raises(InvalidProgram, match="not JSON data"):
        program(meta={"bad": float("nan")}).save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["net.oar"]


def test_saving_over_what_is_mapped(saved):
    loaded = oarlock.load(saved)
    loaded.save(saved)
    assert oarlock.load(saved).same_weights(program())


def rewrite(path: Path, **members: bytes) -> None:
    """Replace members by keyword (``program``, ``weights``, ``meta``), with right digests."""
    names = {"program": archive.TEXT, "weights": archive.WEIGHTS, "meta": archive.META}
    with zipfile.ZipFile(path) as z:
        found = {n: z.read(n) for n in archive.MEMBERS}
    found.update({names[k]: v for k, v in members.items()})
    if "meta" not in members:
        meta = json.loads(found[archive.META])
        for name in (archive.TEXT, archive.WEIGHTS):
            meta["digests"][name] = hashlib.sha256(found[name]).hexdigest()
        found[archive.META] = json.dumps(meta).encode()
    with zipfile.ZipFile(path, "w") as z:
        for name, data in found.items():
            z.writestr(name, data)


def weights(header: dict | bytes, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype="F32", shape=(3,), offsets=(0, 12)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "overlap": ({"w": entry(), "v": entry(offsets=(8, 20))}, 20, "tensor 'v' begins at byte 8, expected 12"),
    "hole": ({"w": entry(offsets=(4, 16))}, 16, "begins at byte 4, expected 0"),
    "uncovered": ({"w": entry()}, 16, "16 bytes of data, the tensors cover 12"),
    "outside": ({"w": entry(offsets=(0, 1 << 50))}, 12, "data_offsets [0, 1125899906842624] of 12 bytes"),
    "size": ({"w": entry(shape=(4,))}, 12, "F32[4] in 12 bytes, expected 16"),
    "negative": ({"w": entry(shape=(-3,))}, 12, "shape [-3]"),
    "boolean": ({"w": entry(shape=(True,))}, 12, "shape [True]"),
    "rank": ({"w": entry(shape=[1] * 40 + [3])}, 12, "shape [1, 1"),
    "huge": ({"w": entry(shape=(1 << 40, 1 << 40))}, 12, "in 12 bytes, expected"),
    "dtype": ({"w": entry("F128")}, 12, "element type 'F128'"),
    "keys": ({"w": {"dtype": "F32"}}, 0, "expected dtype, shape and data_offsets"),
    "other type": ({"w": entry("I32")}, 12, "param 'w': expected f32[3], got int32[3]"),
    "other shape": ({"w": entry(shape=(1, 3))}, 12, "param 'w': expected f32[3], got float32[1, 3]"),
    "missing": ({}, 0, "param 'w': expected f32[3], got no array"),
    "truth": ({"w": entry("BOOL", (1,), (0, 1))}, b"\x07", "neither 0 nor 1"),
    "twice": (b'{"w":1,"w":2}', 0, "a key appears twice"),
    "nan": (b'{"w":NaN}', 0, "NaN is not JSON"),
    "deep": (b"[" * 100000, 0, "not valid JSON"),
    "list": (b"[]", 0, "the header is not an object"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_weights(saved, case):
    header, body, expected = HOSTILE[case]
    rewrite(saved, weights=weights(header, body if isinstance(body, bytes) else bytes(body)))
    with pytest.raises(InvalidModel) as caught:
        oarlock.load(saved)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{saved}: ")


def test_header_longer_than_the_file(saved):
    rewrite(saved, weights=(1 << 60).to_bytes(8, "little"))
    with pytest.raises(InvalidModel, match="header of 1152921504606846976 bytes, the limit is"):
        oarlock.load(saved)


META = {
    b"{}": "no format version",
    b'{"format": true}': "no format version",
    b'{"format": 2, "digests": {}}': "format 2; this version of oarlock reads 1",
    b'{"format": 1, "digests": {"program.txt": "x"}}': "no sha256 of program.txt",
    b"\xff": "not valid JSON",
}


@pytest.mark.parametrize("meta", META)
def test_hostile_meta(saved, meta):
    rewrite(saved, meta=meta)
    with pytest.raises(InvalidModel, match=META[meta]):
        oarlock.load(saved)


TEXTS = {
    b"\xff\xfe": "utf-8",
    b"oarlock 2\n": "expected `oarlock 1`",
    b"oarlock 1\ngraph() {\n  return %x\n}\n": "line 3: %x is not defined",
    b"oarlock 1\nsignature " + json.dumps({"args": [{"leaf": 5}]}).encode() + b"\ngraph() {\n  return\n}\n":
        "signature, argument 0: bad tree",
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_hostile_text(saved, text):
    rewrite(saved, program=text)
    with pytest.raises(InvalidModel, match=TEXTS[text]):
        oarlock.load(saved)


def test_compressed_members_are_refused(saved, tmp_path):
    path = tmp_path / "bomb.oar"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in archive.MEMBERS:
            new.writestr(name, old.read(name) + b" " * 10000)
    with pytest.raises(InvalidModel, match="compressed or encrypted; only stored ones are read"):
        oarlock.load(path)


def test_other_members_are_refused(saved):
    with zipfile.ZipFile(saved, "a") as z:
        z.writestr("../../evil.py", "x")
    with pytest.raises(InvalidModel, match="4 members, expected 3"):
        oarlock.load(saved)


def test_damage_is_found(saved):
    data = bytearray(saved.read_bytes())
    position = data.index(np.arange(3, dtype=np.float32).tobytes())
    data[position] ^= 1
    saved.write_bytes(data)
    with pytest.raises(InvalidModel, match=r"weights\.safetensors is damaged: expected sha256"):
        oarlock.load(saved)


def test_every_truncation_is_found(saved):
    data = saved.read_bytes()
    for size in [*range(0, len(data), 97), len(data) - 1]:
        saved.write_bytes(data[:size])
        with pytest.raises(InvalidModel):
            oarlock.load(saved)


def test_not_a_file(tmp_path):
    with pytest.raises(InvalidModel, match="not a regular file"):
        oarlock.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        oarlock.load(tmp_path / "absent.oar")


def test_signature_survives(tmp_path):
    tree = {"record": "Out", "fields": [["y", {"leaf": 0}], ["n", {"size": "2*N"}]]}
    signature = Signature(({"leaf": 0},), (), tree, ("x",))
    program(signature=signature).save(tmp_path / "s.oar")
    assert oarlock.load(tmp_path / "s.oar").signature == signature


def test_element_types():
    kinds = {bf16: np.uint16, i8: np.int8, bool_: np.bool_}
    arrays = {d.name: np.zeros(2, kinds[d]) for d in kinds}
    data = np.frombuffer(b"".join(tensors.chunks(arrays)), np.uint8)
    assert {k: v.dtype for k, v in tensors.read(data).items()} == {
        k: v.dtype for k, v in arrays.items()
    }
