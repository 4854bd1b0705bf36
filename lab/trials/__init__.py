"""Trials of the programmable controller's behaviours on the live Linux driver."""
