"""Every verb as its help says, from an empty folder; wrong input and the exit codes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from oarlock.cli import main as cli  # noqa: E402
from oarlock.errors import CompilerBug  # noqa: E402

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.size = 1 // 0

class Other(Net):
    def forward(self, x):
        return super().forward(x) + 1e-2

def made():
    return Net(), (torch.ones(1, 4),), {"x": {0: "N"}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli")
    (place / "model.py").write_text(MODEL)
    (place / "wrong.py").write_text("import no_such_module\n")
    (place / "text.oar").write_text("not a model")
    np.save(place / "batch.npy", np.random.default_rng(0).standard_normal((3, 4), np.float32))
    np.save(place / "double.npy", np.zeros((3, 4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert oarlock("capture model.py:Net --input 'x:f32[N,4]' -o net.oar") == 0
    return place


def oarlock(line: str) -> int:
    """The exit code of ``oarlock LINE``."""
    with pytest.raises(SystemExit) as exit:
        cli.main(shlex.split(line))
    code = exit.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Exit code, standard output and standard error of a command line."""
    monkeypatch.chdir(folder)

    def call(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = oarlock(line)
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("verb", cli.VERBS)
def test_the_example_of_the_help_runs(run, verb):
    code, text, _ = run(f"{verb} --help")
    assert code == 0
    (line,) = re.findall(r"Example: (.*?)\n*$", re.sub(r"\n\s+", " ", text), re.DOTALL)
    words = [w for w in shlex.split(line) if "=" not in w or not w.startswith("OARLOCK_")]
    assert words[:2] == ["oarlock", verb]
    command = " ".join(map(shlex.quote, words[1:])).replace("x:f32[N,3,32,32]", "x:f32[N,4]")
    assert run(command)[0] == 0, command


JSON = [
    "capture model.py:made -o made.oar", "show net.oar", "compile net.oar --threads 1",
    "run net.oar -i batch.npy", "run net.oar --random --dim N=2 --executor reference",
    "compare net.oar --dim N=2", "compare net.oar -i batch.npy --eager model.py:Net",
    "bench net.oar --runs 3 --profile --threads 1", "size net.oar", "ops conv", "ops add --aten",
    "passes", "passes net.oar", "knobs",
]  # fmt: skip


@pytest.mark.parametrize("line", JSON)
def test_json(run, line):
    code, text, _ = run(f"{line} --json")
    assert code == 0
    assert json.loads(text)


WRONG = [
    ("capture model.py -o a.oar", 2, "expected FILE.py:NAME"),
    ("capture model.py:Net -o a.oar", 2, "describe its inputs with --input"),
    ("capture model.py:Net -i nonsense -o a.oar", 2, "expected NAME:DTYPE[SHAPE]"),
    ("capture model.py:Net -i 'f33[N,4]' -o a.oar", 1, "no element type 'f33'"),
    ("capture none.py:Net -o a.oar", 1, "none.py: no such file"),
    ("capture model.py:Nett -o a.oar", 1, "model.py has no 'Nett'"),
    ("capture wrong.py:Net -o a.oar", 1, "wrong.py:1: ModuleNotFoundError"),
    ("capture model.py:Broken -i 'f32[2]' -o a.oar", 1, "ZeroDivisionError"),
    ("capture model.py:Net -i 'x:f32[N,5]' -o a.oar", 1, "model.py:"),
    ("capture model.py:Net -i 'x:f32[N,4]' --weights batch.npy -o a.oar", 1, "batch.npy"),
    ("show text.oar", 1, "text.oar: not an .oar file"),
    ("show none.oar", 2, "does not exist"),
    ("show net.oar --stage nothing", 1, "no stage 'nothing'"),
    ("compile net.oar --target tpu", 1, "no target 'tpu'"),
    ("run net.oar", 1, "input 'x' is missing"),
    ("run net.oar -i double.npy", 1, "pass x.astype('float32')"),
    ("run net.oar -i y=batch.npy", 1, "no input 'y'"),
    ("run net.oar -i model.py", 1, "not an .npy or .npz file"),
    ("run net.oar --random --dim K=3", 1, "no dim K; the dims are N"),
    ("run net.oar --random --dim N=x", 2, "expected NAME=SIZE"),
    ("run net.oar -i batch.npy -o no/such/folder.npz", 1, "No such file"),
    ("bench net.oar --runs 0", 2, "--runs"),
    ("compare net.oar --eager model.py:Net --reference net.oar", 2, "not both"),
    ("ops no_such_op", 1, "nothing contains 'no_such_op'"),
    ("shwo net.oar", 2, "did you mean show?"),
]


@pytest.mark.parametrize("line, code, message", WRONG)
def test_wrong_input(run, line, code, message):
    got, out, err = run(line)
    assert got == code, err
    assert message in re.sub(r"\s*\n[│ ]*", " ", err)
    assert "Traceback" not in err
    assert out == ""


def test_errors_as_json(run):
    code, text, _ = run("show text.oar --json")
    assert code == 1
    assert json.loads(text)["error"] == "InvalidModel"


def test_a_difference_is_an_exit_code(run):
    code, text, _ = run("compare net.oar -i batch.npy --eager model.py:Other")
    assert code == 1
    assert "DIFFERS" in text


@pytest.mark.parametrize("error", [CompilerBug("broken"), RuntimeError("broken")])
def test_a_fault_is_70(run, monkeypatch, error):
    def fail(*args, **named):
        raise error

    monkeypatch.setattr("oarlock.load", fail)
    code, _, err = run("size net.oar")
    assert code == 70
    assert "broken" in err


def test_run_writes_what_the_model_computes(run, folder):
    assert run("run net.oar -i batch.npy -o found.npy")[0] == 0
    namespace: dict = {}
    exec(MODEL, namespace)
    x = torch.from_numpy(np.load(folder / "batch.npy"))
    with torch.no_grad():
        expected = namespace["Net"]()(x).numpy()
    np.testing.assert_allclose(np.load(folder / "found.npy"), expected, rtol=0, atol=1e-6)


def test_show_draws_a_page_that_needs_nothing_else(run, folder):
    assert run("show net.oar --html net.html")[0] == 0
    page = (folder / "net.html").read_text()
    assert "<svg" in page and "linear" in page and "first.weight" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_the_module_is_a_program(folder):
    line = [sys.executable, "-m", "oarlock.cli.main", "--version"]
    root = Path(__file__).parents[2]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("oarlock, version")
