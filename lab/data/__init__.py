"""Plain data that every other part shares: plans, manifests, events, the evidence folder. It starts nothing."""
