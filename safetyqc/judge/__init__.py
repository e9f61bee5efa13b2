"""Conversation and rubric set in, Judgment out: judges, their combinations, and how they are compared."""
