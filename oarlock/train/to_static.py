"""``oarlock.to_static`` with its compiled executors, which ``capture`` may not import."""

from oarlock.capture.to_static import TIERS, StaticFunction, enable_to_static, to_static
from oarlock.train.tier import compiled

if compiled not in TIERS:
    TIERS.append(compiled)

__all__ = ["StaticFunction", "enable_to_static", "to_static"]
