"""Tapes to programs: calls replayed on fake tensors, blocks as sub-graphs."""
