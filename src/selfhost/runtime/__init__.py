"""What runs: processes, their supervision, and the control socket."""
