"""Run the simulated Druid broker until interrupted.

Reads: with --events, one <data source>.jsonl.gz of events per data source; else it makes traffic of its own.
Writes: nothing; answers Druid's native timeseries, topN and timeBoundary queries over HTTP.
"""
