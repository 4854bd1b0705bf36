"""The scenarios and checks of each stage of building a driver."""
