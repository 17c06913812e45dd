"""The scheduler's side: command one host with `HostClient`, see them all with `Fleet`."""
