"""Compiled training: steps and functions recorded under autograd, run in the tensors' own memory."""
