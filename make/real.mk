# The real servers: a Druid, MinIO, Consul and Redis, obtained once into $XDG_CACHE_HOME/rb-aioutliers-servers.
# OUTLIERS_TEST_{DRUID,S3,CONSUL,REDIS}_URL name servers to use instead of ours.

.PHONY: test-real
test-real: $(VENV)/.dev system  ## the whole system on real servers, fetched once into a cache (JDK 17, Maven, Go)
	$(PY) -m tests.real.servers --obtain
	$(PY) -m pytest tests/real -o addopts="-q --strict-markers" -p no:cacheprovider -rs --timeout 600 $(ARGS)

.PHONY: servers
servers: $(VENV)/.dev system  ## start a Druid with traffic, MinIO, Consul and Redis, and print the config to use
	$(PY) -m tests.real.servers $(ARGS)
