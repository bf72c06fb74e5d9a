"""The executor's HTTP service. Never imports what trains."""
