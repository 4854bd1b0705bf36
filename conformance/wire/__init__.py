"""The decoded timeline of a recording: rows, excerpts, the ladder diagram's input, the difference of two timelines."""
