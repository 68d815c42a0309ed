"""Every test runs with the programs checked after every pass."""

import os

import pytest

os.environ.setdefault("OARLOCK_VERIFY", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update", action="store_true", help="rewrite the expected graphs of rewrites"
    )
