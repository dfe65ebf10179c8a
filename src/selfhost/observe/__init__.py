"""How it is doing: probes and metrics."""
