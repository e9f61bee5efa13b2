"""The one door to models: the Client protocol, its implementations, and what every call goes through."""

from safetyqc.llm.client import Client, Format, Reply, Request, check_finish

__all__ = ["Client", "Format", "Reply", "Request", "check_finish"]
