"""One machine: the launcher that starts, watches and stops all processes of the pipeline."""
