# One image for stream, learn and serve; compose.yaml sets the command.
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /headrace
COPY constraints.txt pyproject.toml README.md ./
COPY stream stream
COPY online_models online_models
COPY serving serving
COPY replay replay
COPY headrace headrace
RUN /headrace/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[fast-kafka]'

FROM python:3.11-slim
# An unprivileged user, and the two folders that it may write to; so may any user of group 0, as OpenShift runs containers.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin headrace \
    && install --directory --owner headrace --group root --mode 775 /data /kernels
COPY --from=build /headrace /headrace
# Kernels are compiled for the local CPU on first use and cached in a volume.
ENV PATH=/headrace/bin:$PATH NUMBA_CACHE_DIR=/kernels ALIVE_AT=http://127.0.0.1:8000/healthz
USER 10001:10001
WORKDIR /data
VOLUME ["/data", "/kernels"]
EXPOSE 8000 9101 9102
# stream and learn set ALIVE_AT to their metrics ports.
HEALTHCHECK --interval=5s --timeout=3s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['ALIVE_AT'], timeout=2).read(1)"]
CMD ["headrace", "serve"]
