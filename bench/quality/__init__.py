"""How good something is instead of how fast: echo, the seams of long replies, weights in 4 bits."""
