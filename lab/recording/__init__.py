"""Manifest × scenario × device → evidence: the only part that touches the world."""
