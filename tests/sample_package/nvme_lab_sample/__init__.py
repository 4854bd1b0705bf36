"""An adapter, a driver, a behaviour of the device, and a check with its scenario, none of which is part of NVMe Lab."""

from pathlib import Path

MANIFEST = Path(__file__).with_name("sample.toml")
