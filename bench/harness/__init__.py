"""What the benchmarks share: the workload, the three models in one process, paced conversations and plots."""
