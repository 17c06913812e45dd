"""Write a host or a scheduler for wasmCloud v2: the host control protocol over NATS, both sides."""

from berth.host import Description, Host, Refusal, Reporter, ServeOptions, Start, serve

__all__ = ["Description", "Host", "Refusal", "Reporter", "ServeOptions", "Start", "serve"]
