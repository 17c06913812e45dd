"""The bus: the only package that uses the NATS client library."""

from berth.bus._bus import Bus, ConnectionState, RawReply, connect
from berth.bus._subscription import Delivery, Subscription

__all__ = ["Bus", "ConnectionState", "Delivery", "RawReply", "Subscription", "connect"]
