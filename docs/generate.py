"""Write the derived pages of ``docs/``: ``python -m docs.generate``, run by ``make docs``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oarlock.ops import table

FOLDER = Path(__file__).parent
PAGES: dict[str, Callable[[], str]] = {"ops.md": table.markdown}


def stale() -> list[str]:
    """Pages whose text is not what would be written."""
    return [
        name
        for name, page in PAGES.items()
        if not (FOLDER / name).exists() or (FOLDER / name).read_text() != page()
    ]


def main() -> None:
    for name in stale():
        (FOLDER / name).write_text(PAGES[name]())
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
