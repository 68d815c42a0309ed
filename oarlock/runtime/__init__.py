"""Find a compiler, build an engine, keep it, load it, call it, compare it."""
