"""Runtime benchmarks: candidates, interleaved timing, statistics, profiles, and their output as text and HTML."""
