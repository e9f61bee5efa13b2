"""Requests that go to a provider together and come back hours later."""
