"""Finding what no scenario asks for: faults at every place, pairs of them, the smallest scenario that fails, mutations."""
