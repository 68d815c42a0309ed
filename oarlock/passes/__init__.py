"""Program in, program out: one pass per file."""
