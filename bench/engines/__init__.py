"""The engines, in one process: throughput beside a plain loop, and what happens under load and at a commit."""
