"""Guest images, built from recipes of locked packages."""
