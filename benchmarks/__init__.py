"""Side by side with other implementations, on one machine, by one command: make bench (or python -m benchmarks)."""
