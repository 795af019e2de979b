"""What docker/ says, run here: command lines, health checks, probes."""
