"""``oarlock VERB``: finds the verb's file, maps errors to exit codes.

Exit codes: 0 done; 1 the input is wrong (UserError) or a tool failed (ToolError); 2 the command
line is wrong; 70 a fault of Oarlock (CompilerBug, or any error that is not on purpose).
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

import oarlock
from oarlock.errors import CompilerBug, OarlockError

VERBS = (
    "capture", "show", "compile", "run", "compare", "bench", "lite", "size", "ops", "passes", "knobs",
)  # fmt: skip
EXIT_USER, EXIT_BUG = 1, 70


class _Verbs(click.Group):
    """Verbs are imported when they are used, so that ``--help`` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"oarlock.cli.{cmd_name}").command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; verbs: {', '.join(VERBS)}"
            ctx.fail(f"no verb {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(oarlock.__version__, prog_name="oarlock")
def group() -> None:
    """Take a PyTorch model to every place it has to run.

    \b
    Example:
      oarlock capture model.py:Net --input 'x:f32[N,3,32,32]' -o net.oar
      oarlock run net.oar --input x=batch.npy -o logits.npz
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``oarlock`` script."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(group.main(arguments, prog_name="oarlock", standalone_mode=False) or 0)
    except click.exceptions.Exit as exit:
        sys.exit(exit.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OarlockError as error:
        sys.exit(_report(error, "--json" in arguments))
    except OSError as error:
        sys.exit(_report(error, "--json" in arguments))
    except Exception as error:
        traceback.print_exc()
        sys.exit(_report(CompilerBug(_fault(error)), "--json" in arguments))


def _fault(error: Exception) -> str:
    return f"a fault of Oarlock, please report it: {type(error).__name__}: {error}"


def _report(error: Exception, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    else:
        print(f"oarlock: {error}", file=sys.stderr)
    return EXIT_BUG if isinstance(error, CompilerBug) else EXIT_USER


if __name__ == "__main__":
    main()
