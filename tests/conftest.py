"""Every test runs with the programs checked after every pass."""

import os

os.environ.setdefault("OARLOCK_VERIFY", "1")
