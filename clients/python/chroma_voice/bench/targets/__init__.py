"""Servers that can be called: a gateway over gRPC, and anything with the Realtime API."""
