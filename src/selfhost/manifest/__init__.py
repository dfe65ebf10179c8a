"""What was asked for: models.yaml as typed, frozen objects."""
