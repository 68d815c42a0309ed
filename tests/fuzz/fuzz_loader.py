"""Mutate ``.oar`` files and load them: a program or InvalidModel, nothing else, in bounded memory.

``python -m tests.fuzz.fuzz_loader --mutants 100000``.  Half of the mutants are raw bytes; the other
half change the text, the JSON of the weights or the meta and get fresh digests, so that they reach
the parser, the type rules and the verifier.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import oarlock.ops  # noqa: F401  registers the records
from oarlock.errors import InvalidModel, InvalidProgram, UserError
from oarlock.ir import (
    Builder,
    Dim,
    Program,
    Signature,
    State,
    TensorType,
    archive,
    container,
    f32,
    i64,
)
from oarlock.ir.op import REGISTRY
from oarlock.ir.parser import parse

MEMORY_BYTES = 2 << 30
LIMIT_S = 10
NUMBERS = ("0", "1", "2", "-1", "7", "255", "65535", "4294967295", "9223372036854775807",
           "18446744073709551616", "1e400", "-0.0", "nan", "inf", "None", "True", "()")  # fmt: skip
EDGES = (0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)

Members = dict[str, bytes]


@dataclass(frozen=True)
class Seed:
    """A valid file, whole and in members."""

    data: bytes
    members: Members


def seeds() -> list[Seed]:
    """A program for every sample of every op, and a few with state, signature and dims."""
    programs = [_handwritten(), *_op_programs()]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for i, program in enumerate(programs):
            path = Path(folder) / f"{i}.oar"
            try:
                program.save(path)
            except (InvalidProgram, UserError):
                continue
            data = path.read_bytes()
            raw = container.read(np.frombuffer(data, np.uint8), archive.MEMBERS)
            found.append(Seed(data, {name: view.tobytes() for name, view in raw.items()}))
    return found


def _handwritten() -> Program:
    b = Builder()
    n, t = Dim("N", 1, 64), Dim("T", 2)
    x = b.input(TensorType(f32, (n, t * 2 + 1, 3)), "x")
    ids = b.input(TensorType(i64, (n,)), "ids")
    w = b.param("layer.weight", TensorType(f32, (3,)))
    counter = b.param("counter", TensorType(f32, (3,)))
    y = b.add(b.mul(x, w), counter)
    z = b.reduce_sum(y, axes=(1,), keepdims=False)
    b.graph.outputs = [z, ids, b.add(counter, 1.0)]
    tree = {
        "record": "Output",
        "fields": [["z", {"leaf": 0}], ["more", {"list": [{"leaf": 1}, {"size": "2*T"}]}]],
    }
    signature = Signature(
        ({"leaf": 0},), (("ids", {"leaf": 1}), ("flag", {"const": True})), tree, ("x", "ids")
    )
    params = {"layer.weight": np.ones(3, np.float32), "counter": np.zeros(3, np.float32)}
    return Program(
        b.graph,
        params,
        state=(State("counter", 2),),
        signature=signature,
        meta={"a": [1, 2.5, None]},
    )


def _op_programs() -> list[Program]:
    found = []
    for record in REGISTRY.values():
        for sample in record.samples[:3]:
            b = Builder()
            params: dict[str, np.ndarray] = {}
            values = []
            for i, x in enumerate(sample.inputs):
                if isinstance(x, TensorType):
                    values.append(b.input(x, f"x{i}"))
                else:
                    from oarlock.ir import DType

                    params[f"p{i}"] = np.array(x)
                    values.append(b.param(f"p{i}", TensorType(DType.of(x.dtype), x.shape)))
            try:
                node = b.append(record(**sample.attrs), values)
            except (UserError, TypeError):
                continue
            b.graph.outputs = list(node.outputs)
            found.append(Program(b.graph, params))
    return found


# Mutations of bytes


def flip(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    data = bytearray(seed.data)
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def truncate(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    return seed.data[: rng.randrange(len(seed.data))]


def splice(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    a, b = rng.randrange(len(seed.data)), rng.randrange(len(other.data))
    return seed.data[:a] + other.data[b:]


def edit_header(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    """A field of a zip record set to an edge value."""
    data = bytearray(seed.data)
    marks = [
        m.start() for m in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07)", data)
    ]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(marks) + rng.randrange(4, 56)
        size = rng.choice((1, 2, 4, 8))
        edge = rng.choice(EDGES) if rng.random() < 0.7 else rng.randrange(len(data) + 2)
        data[at : at + size] = (edge % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(data)


def grow(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    at = rng.randrange(len(seed.data))
    return seed.data[:at] + rng.randbytes(rng.randint(1, 64)) + seed.data[at:]


# Mutations of members, digests made right


def edit_text(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    text = seed.members["program.txt"].decode()
    for _ in range(rng.randint(1, 4)):
        text = rng.choice(TEXT_EDITS)(rng, text, other.members["program.txt"].decode())
    return pack({**seed.members, "program.txt": text.encode("utf-8", "surrogatepass")})


def edit_weights(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    data = seed.members["weights.safetensors"]
    length = int.from_bytes(data[:8], "little")
    header = edit_json(rng, data[8 : 8 + length])
    claimed = len(header) if rng.random() < 0.8 else rng.choice((*EDGES, 1 << 40, (1 << 64) - 1))
    body = data[8 + length :]
    if rng.random() < 0.3:
        body = body[: rng.randrange(len(body) + 1)]
    return pack(
        {**seed.members, "weights.safetensors": claimed.to_bytes(8, "little") + header + body}
    )


def edit_meta(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    meta = edit_json(rng, fresh_meta(seed.members))
    return pack({**seed.members, "meta.json": meta}, keep_meta=True)


def swap_members(rng: random.Random, seed: Seed, other: Seed) -> bytes:
    members = dict(seed.members)
    name = rng.choice(archive.MEMBERS)
    members[name] = rng.choice((other.members[name], b"", rng.randbytes(100), b"[" * 5000))
    return pack(members, keep_meta=name == "meta.json")


def edit_json(rng: random.Random, data: bytes) -> bytes:
    text = data.decode("latin-1")
    for _ in range(rng.randint(1, 3)):
        spans = [
            m.span() for m in re.finditer(r'"(?:[^"\\]|\\.)*"|-?\d+|[\[\]{},:]|true|null', text)
        ]
        if not spans:
            break
        a, b = rng.choice(spans)
        values = ("-1", "1e999", "NaN", "null", "[]", "{}", '"F32"', '"\\ud800"', "[" * 3000,
                  "9" * 30, "0", str(1 << 61), "true", "", text[slice(*rng.choice(spans))])  # fmt: skip
        text = text[:a] + rng.choice(values) + text[b:]
    return text.encode("latin-1")


def _pick(rng: random.Random, text: str, pattern: str) -> tuple[int, int] | None:
    spans = [m.span() for m in re.finditer(pattern, text)]
    return rng.choice(spans) if spans else None


def _replacing(pattern: str, choose: Callable[[random.Random, str], str]) -> Callable[..., str]:
    def edit(rng: random.Random, text: str, other: str) -> str:
        span = _pick(rng, text, pattern)
        if span is None:
            return text
        return text[: span[0]] + choose(rng, text) + text[span[1] :]

    return edit


def _swap_lines(rng: random.Random, text: str, other: str) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def _insert_line(rng: random.Random, text: str, other: str) -> str:
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(other.split("\n")))
    return "\n".join(lines)


def _drop_line(rng: random.Random, text: str, other: str) -> str:
    lines = text.split("\n")
    lines.pop(rng.randrange(len(lines)))
    return "\n".join(lines)


def _token(rng: random.Random, text: str) -> str:
    return text[slice(*(_pick(rng, text, r"[%\w.]+|[^\s\w]") or (0, 0)))]


def _deep(rng: random.Random, text: str) -> str:
    n = rng.choice((3, 40, 2000))
    return rng.choice(
        ("(" * n + "1" + ")" * n, "min(" * n + "N", "(N//3)*" * n + "N", "-" * n + "1")
    )


TEXT_EDITS: list[Callable[[random.Random, str, str], str]] = [
    _swap_lines,
    _insert_line,
    _drop_line,
    _replacing(r"\d+(?:\.\d+)?", lambda rng, _: rng.choice(NUMBERS)),
    _replacing(r"\d+", lambda rng, _: str(rng.randrange(1 << rng.randrange(1, 66)))),
    _replacing(r"(?<== )\w+(?=\()", lambda rng, _: rng.choice(list(REGISTRY))),
    _replacing(r"\b(?:f32|i64|bool|f64)\b", lambda rng, _: rng.choice(("bf16", "i8", "bool", "f99"))),
    _replacing(r"[%\w.]+|[^\s\w]", _token),
    _replacing(r"[%\w.]+|[^\s\w]", lambda rng, _: ""),
    _replacing(r"\d+|\b[NT]\b", _deep),
    _replacing(r'"[^"\n]*"', lambda rng, _: rng.choice(('"\\ud800"', '""', '"\\u0000"', '"x" "y"', '"é"'))),
    _replacing(r"(?<=\[)[^\[\]\n]*(?=\])", lambda rng, _: rng.choice(("", "1,1,1", "N", "0", "1," * 70))),
]  # fmt: skip


def fresh_meta(members: Members) -> bytes:
    """The meta with the digests of these members."""
    meta = json.loads(members["meta.json"])
    for name in ("program.txt", "weights.safetensors"):
        meta["digests"][name] = hashlib.sha256(members[name]).hexdigest()
    return json.dumps(meta).encode()


def pack(members: Members, keep_meta: bool = False) -> bytes:
    """A well-formed container of these members."""
    if not keep_meta:
        members = {**members, "meta.json": fresh_meta(members)}
    file = io.BytesIO()
    container.write(file, [(name, [data]) for name, data in members.items()])
    return file.getvalue()


MUTATORS = (flip, truncate, splice, edit_header, grow,
            edit_text, edit_text, edit_text, edit_text, edit_weights, edit_meta, swap_members)  # fmt: skip


class TooSlow(BaseException):
    """A mutant took longer than LIMIT_S."""


def _too_slow(*_: object) -> None:
    raise TooSlow


def try_one(path: Path, data: bytes) -> str:
    """ "loaded" or the first words of the reason; anything but InvalidModel comes out."""
    path.write_bytes(data)
    signal.alarm(LIMIT_S)
    try:
        program = archive.load(path)
    except InvalidModel as error:
        return re.sub(r"[\d'\"].*", "", str(error).removeprefix(f"{path}: "))[:40]
    finally:
        signal.alarm(0)
    assert parse(str(program)) == program
    archive.weights_digest(program.params)
    return "loaded"


def fuzz(mutants: int, seed: int, keep: Path | None = None) -> Counter[str]:
    """Try ``mutants``; how often each outcome came.  Raises what a loader must not."""
    resource.setrlimit(
        resource.RLIMIT_AS, (MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1])
    )
    signal.signal(signal.SIGALRM, _too_slow)
    rng = random.Random(seed)
    corpus, outcomes = seeds(), Counter[str]()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        for i in range(mutants):
            mutate = rng.choice(MUTATORS)
            data = mutate(rng, rng.choice(corpus), rng.choice(corpus))
            try:
                outcomes[try_one(Path(folder) / "mutant.oar", data)] += 1
            except BaseException:
                if keep is not None:
                    keep.write_bytes(data)
                print(f"mutant {i} of seed {seed}, {mutate.__name__}", file=sys.stderr)
                raise
    return outcomes


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mutants", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", type=Path, help="write the mutant that fails to this file")
    given = arguments.parse_args()
    start = time.perf_counter()
    outcomes = fuzz(given.mutants, given.seed, given.keep)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for reason, count in outcomes.most_common(25):
        print(f"{count:8}  {reason}")
    print(f"{given.mutants} mutants, {outcomes['loaded']} loaded, {seconds:.0f} s, peak {peak} KiB")


if __name__ == "__main__":
    main()
