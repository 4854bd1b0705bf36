"""The devices that a DeviceSpec can become."""
