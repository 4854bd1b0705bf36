"""From evidence to verdicts, and from verdicts to results: pure functions."""
