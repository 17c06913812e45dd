"""The bus: the one package here that knows how NATS is spoken."""

from berth.bus._bus import Answer, Bus, Link, connect
from berth.bus._subscription import Delivery, Subscription

__all__ = ["Answer", "Bus", "Delivery", "Link", "Subscription", "connect"]
