"""The lab: devices, guests and drivers, and the recordings of what they do."""
