"""`python -m safetyqc`, the same as the `safetyqc` command."""

from safetyqc.cli import main

main()
