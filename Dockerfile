# Two targets: `docker build --target executor .` and `docker build --target trainer .`
#
# TORCH_INDEX: a package index with torch's CPU build, for the trainer; without it torch's plain name brings
# gigabytes of CUDA on x86_64.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS source
WORKDIR /source
COPY requirements.txt requirements-train.txt ./
COPY requirements requirements
COPY rpm/runtime.sh rpm/runtime.sh
COPY outliers outliers
COPY export export

FROM source AS executor-build
RUN rpm/runtime.sh executor executor python3 python3 /opt/rb-aioutliers /opt/rb-aioutliers

FROM source AS trainer-build
ARG TORCH_INDEX=
RUN TORCH_INDEX="${TORCH_INDEX}" \
    rpm/runtime.sh trainer trainer python3 python3 /opt/rb-aioutliers-trainer /opt/rb-aioutliers-trainer

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
RUN groupadd --system --gid 10001 rb-aioutliers \
    && useradd --system --uid 10001 --gid rb-aioutliers --home-dir /var/lib/rb-aioutliers --shell /usr/sbin/nologin \
        rb-aioutliers \
    && install -d -o rb-aioutliers -g rb-aioutliers -m 0750 /var/lib/rb-aioutliers /var/log/rb-aioutliers
WORKDIR /var/lib/rb-aioutliers
ENV OMP_NUM_THREADS=1

FROM base AS trainer
COPY --from=trainer-build /opt/rb-aioutliers-trainer /opt/rb-aioutliers-trainer
ENV OUTLIERS_TRAINING__METRICS_ADDRESS=0.0.0.0
USER 10001:10001
EXPOSE 39092
# Scheduler and worker are well while they reach their Redis.
HEALTHCHECK --interval=60s --timeout=20s --start-period=30s \
    CMD ["/opt/rb-aioutliers-trainer/bin/rb-aioutliers", "jobs", "list"]
ENTRYPOINT ["/opt/rb-aioutliers-trainer/bin/rb-aioutliers"]
CMD ["work"]

FROM base AS executor
COPY --from=executor-build /opt/rb-aioutliers /opt/rb-aioutliers
ENV OUTLIERS_OUTLIERSSERVERPRODUCTION__OUTLIERS_BINDING_ADDRESS=0.0.0.0
USER 10001:10001
EXPOSE 39091
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:39091/health', timeout=4)"]
ENTRYPOINT ["/opt/rb-aioutliers/bin/rb-aioutliers"]
CMD ["serve"]
