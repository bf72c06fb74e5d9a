"""Benchmarks: how well it detects and how fast it answers, each beside what it is compared with."""
