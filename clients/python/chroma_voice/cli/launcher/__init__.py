"""Commands that run the processes of a server: `up`, `down`, `serve` and `checkpoint`."""
