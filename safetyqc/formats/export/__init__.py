"""Conversations out: a table of the forms that trainers read, split, repeated, written and accounted for."""
