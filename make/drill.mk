# Drills: the system's processes under faults, as a person would want to see them.

.PHONY: drill-trainer
drill-trainer: $(VENV)/.dev system  ## two schedulers, three workers; kill -9, Redis and S3 away: prints what came of each name
	$(PY) -m benchmarks.drill_trainer $(ARGS)
