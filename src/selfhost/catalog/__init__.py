"""What the models are: configs, checkpoints and the known catalogue."""
