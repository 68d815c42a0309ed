"""Program in, program out: one pass per file."""

from oarlock.passes.pipeline import PORTABLE, TARGET, describe, optimise, run_pipeline

__all__ = ["PORTABLE", "TARGET", "describe", "optimise", "run_pipeline"]
