"""What will run, and why: pure functions from values to values."""
