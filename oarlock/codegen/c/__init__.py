"""C text: the printer, literals, names and the prelude."""
