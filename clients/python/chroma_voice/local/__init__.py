"""The launcher: it starts, watches and stops all processes on one machine."""
