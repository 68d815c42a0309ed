"""Cases that fail, each with its reason; a case that passes again must leave the list."""

KNOWN: dict[str, str] = {}
