"""Proof that the suite can fail and does not fail without cause: seeded defects, legal variants, benchmarks."""
