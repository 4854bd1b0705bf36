"""The suite of scenarios and checks, its runs, and its reports."""
