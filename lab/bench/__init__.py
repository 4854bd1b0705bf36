"""Benchmarks. Each measures two things in one run, in turns, for their ratio says more than milliseconds of some machine."""
