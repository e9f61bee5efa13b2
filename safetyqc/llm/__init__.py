"""The one door to models: the Client protocol, its implementations, and what every call goes through."""

from safetyqc.llm.client import Client, Format, FormatRefused, Reply, Request, check_finish
from safetyqc.llm.structured import Answered, Capabilities, Unusable, ask_json

__all__ = [
    "Answered",
    "Capabilities",
    "Client",
    "Format",
    "FormatRefused",
    "Reply",
    "Request",
    "Unusable",
    "ask_json",
    "check_finish",
]
