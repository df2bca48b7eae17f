"""A stand-in for a Kubernetes cluster: its API as far as kubectl and helm need it, in memory, without nodes.

It keeps objects and their versions, and reports workloads as running at once. It looks at the kind, the name and the
namespace of an object only: tests/deploy/test_schemas.py holds the manifests against the schemas.
"""
