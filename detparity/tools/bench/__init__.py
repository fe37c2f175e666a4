"""Runtime benchmarks: what is timed, how the turns are taken, what the times say, and how that is shown."""
