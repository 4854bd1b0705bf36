"""What is required of a driver: checks with their citations and levels, scenarios, stages, and the selection of them."""
