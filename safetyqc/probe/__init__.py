"""Asks models a fixed set of prompts and says what they do: before and after training, paired prompt by prompt."""
