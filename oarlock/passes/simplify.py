"""Algebra, views, casts, sizes and control flow in their simplest form."""

from __future__ import annotations

from oarlock.ir import Program
from oarlock.passes import algebra, casts, control, fold, views
from oarlock.passes.rewrite import Rules, rewrite
from oarlock.passes.stage import stage

RULES = Rules(algebra.RULES, casts.RULES, views.RULES, control.RULES, fold.RULES)


@stage("simplify")
def simplify(program: Program) -> Program:
    """Apply the identities that hold for every input, NaN, infinities and -0.0 included."""
    return rewrite(program, RULES)
