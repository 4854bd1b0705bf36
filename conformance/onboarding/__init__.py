"""Bringing a driver: what the machine has, what a file is, what a system does at its first boot."""
