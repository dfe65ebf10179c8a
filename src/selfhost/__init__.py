"""selfhost: a declarative `models.yaml` becomes running, sized, verified vLLM deployments on your own GPUs."""

__version__ = "0.1.0"
