"""The read model of one recording: events, the state they lead to, the disk's contents, the memory open to the device."""
