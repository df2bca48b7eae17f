"""What the gateway costs: paced conversations through a gateway process whose stages are fakes in another process."""
