"""What a record is made of; the classes live in ``oarlock.ir.op``, below the parser."""

from oarlock.ir.op import REGISTRY, Op, Sample, get, op

__all__ = ["REGISTRY", "Op", "Sample", "get", "op"]
