"""One GPU: times of steps, conversations, memory, and the schedule of its streams."""
