"""Every case through one static function against eager, without and with gradients."""

from __future__ import annotations

import warnings

import pytest

from tests.constructs.case import CASES
from tests.constructs.cases import load
from tests.constructs.check import failures, warm
from tests.constructs.known import KNOWN, NEAR

load()
NAMES = sorted(CASES)
MODES = [(n, g) for n in NAMES for g in ((False, True) if CASES[n].grad else (False,))]


@pytest.fixture(scope="module", autouse=True)
def _warm():
    warm()


@pytest.mark.parametrize(
    ("name", "grad"), MODES, ids=lambda x: x if isinstance(x, str) else "ng"[x]
)
def test_static_is_eager(name: str, grad: bool):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name not in KNOWN:
            assert failures(CASES[name], grad) == []
            return
        try:
            found = failures(CASES[name], grad)
        except Exception as error:
            found = [str(error)]
        is_last = grad or not CASES[name].grad
        if is_last and not KNOWN[name].startswith(NEAR):
            assert found, f"{name} passes: take it out of KNOWN"
