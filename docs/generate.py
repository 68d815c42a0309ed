"""Write the derived pages of ``docs/``: ``python -m docs.generate``, run by ``make docs``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from oarlock import errors, knobs
from oarlock.ops import table

FOLDER = Path(__file__).parent
NOTE = "Written by `make docs`; a test compares it with the code."


def aten() -> str:
    """What capture lifts directly."""
    from oarlock.capture.lift import overloads

    names = overloads()
    rows = "\n".join(f"* `{name}`" for name in names)
    return f"# ATen overloads with a lift\n\n{NOTE} {len(names)} overloads; others go through\nPyTorch's own decompositions where these end here.\n\n{rows}\n"


def passes() -> str:
    """Both pipelines in order."""
    from oarlock.passes import PORTABLE, TARGET, describe

    parts = [f"# Passes\n\n{NOTE}\n"]
    for title, stages in (("Portable", PORTABLE), ("Target", TARGET)):
        rows = (describe(stage) for stage in stages)
        parts.append(f"## {title}\n\n{_table(('stage', 'what it does'), map(_cells, rows))}")
    return "\n".join(parts)


def environment() -> str:
    """Every environment variable."""
    rows = ((f"`{k.name}`", _plain(k.default), k.doc) for k in knobs.KNOBS.values())
    return (
        f"# Environment variables\n\n{NOTE}\n\n{_table(('variable', 'default', 'meaning'), rows)}"
    )


def exceptions() -> str:
    """The exception tree, as the module draws it."""
    tree = (errors.__doc__ or "").split("::\n", 1)[1].strip("\n")
    return f"# Errors\n\n{NOTE}\n\n```\n{_dedent(tree)}\n```\n"


def command_line() -> str:
    """The help of every verb."""
    from oarlock.cli.main import VERBS, group

    parent = click.Context(group, info_name="oarlock", **group.context_settings)

    parts = [f"# Command line\n\n{NOTE} Exit codes: 0 done; 1 the input is wrong or a tool failed;"]
    parts.append(
        "2 the command line is wrong; 70 a fault of Oarlock. `--json` prints one document.\n"
    )
    for verb in VERBS:
        command = importlib.import_module(f"oarlock.cli.{verb}").command
        context = click.Context(command, parent, info_name=verb, terminal_width=78)
        parts.append(f"## {verb}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _cells(row: dict[str, str]) -> tuple[str, ...]:
    return (f"`{row['name']}`", row["doc"])


def _plain(value: object) -> str:
    return "" if value is None else str(value)


def _dedent(text: str) -> str:
    lines = text.splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "aten.md": aten,
    "cli.md": command_line,
    "errors.md": exceptions,
    "knobs.md": environment,
    "ops.md": table.markdown,
    "passes.md": passes,
}


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
