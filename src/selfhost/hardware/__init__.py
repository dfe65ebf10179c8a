"""What is there: GPUs, host, disks."""
