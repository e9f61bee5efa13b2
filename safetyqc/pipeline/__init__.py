"""Runs the stages over a run: what is left, in which order, and the loop of rewriting and judging again."""
