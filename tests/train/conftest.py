"""Models of tests are small: they are compiled all the same."""

import pytest


@pytest.fixture(autouse=True)
def _compiled_however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OARLOCK_LEAST_WORK", "0")
