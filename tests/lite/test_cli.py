"""``oarlock lite`` and ``oarlock size``."""

from __future__ import annotations

import json

import pytest

from oarlock.cli.main import main
from tests.lite.test_package import dense


@pytest.fixture
def model(tmp_path):
    dense().save(tmp_path / "net.oar")
    return tmp_path / "net.oar"


def oarlock(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return exit.value.code, captured.out, captured.err


def test_lite_prints_json(model, tmp_path, capsys):
    folder = tmp_path / "net_c"
    code, out, _ = oarlock(capsys, "lite", model, "--dim", "N=2", "-o", folder, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["inputs"] == ["x: float[2][32]"]
    assert 3 * 32 * 32 * 4 < document["weight_bytes"] <= 3 * (32 * 32 * 4 + 64)
    assert document["needs"] == [] or set(document["needs"]) <= {"memcpy", "memset"}
    assert (folder / "net_c.h").exists()


def test_lite_prints_sizes_and_the_build_line(model, tmp_path, capsys):
    code, out, _ = oarlock(capsys, "lite", model, "-o", tmp_path / "n", "--prefix", "dense")
    assert code == 0
    assert "arena_bytes" in out and "linear" in out
    assert out.splitlines()[-1].startswith("build: cd ")
    assert "-c dense.c dense_weights.c" in out


def test_lite_refuses_a_target_that_there_is_not(model, tmp_path, capsys):
    code, _, err = oarlock(capsys, "lite", model, "--target", "z80", "-o", tmp_path / "n")
    assert code == 1
    assert "no target 'z80'; expected one of native, c99, aarch64-linux" in err


def test_size_groups_weights_by_module(model, capsys):
    code, out, _ = oarlock(capsys, "size", model, "--json")
    rows = json.loads(out)
    assert code == 0
    assert {row["module"]: row["bytes"] for row in rows} == {
        f"fc{i}.weight": 4096 for i in range(3)
    }
