"""What the monitor promises and how fast it is: ``python -m experiments.monitoring`` writes ``docs/monitoring.md``."""
