"""What only this project's own tests use."""
