"""How an engine is installed, invoked and understood."""
