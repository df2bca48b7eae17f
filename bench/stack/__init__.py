"""Measurements through the running processes."""
