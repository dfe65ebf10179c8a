"""What clients talk to: one OpenAI-compatible port in front of the engines."""
