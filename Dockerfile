# syntax=docker/dockerfile:1
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements requirements
# The build backend comes from the lock too, so nothing unhashed is ever fetched.
RUN awk '/^[a-z]/ { on = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } on' \
      requirements/dev.txt > /tmp/backend.txt \
 && pip install --require-hashes --no-deps --requirement /tmp/backend.txt
RUN python -m venv /opt/trainmaster \
 && /opt/trainmaster/bin/pip install --require-hashes --no-deps --requirement requirements/worker.txt
COPY LICENSE README.md pyproject.toml ./
COPY client client
COPY schemas schemas
COPY worker worker
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist ./client . \
 && /opt/trainmaster/bin/pip install --no-index --no-deps /dist/*.whl \
 && /opt/trainmaster/bin/pip check

# The playground's stand-in for the API, with what it learns with.
FROM build AS build-sandbox
RUN /opt/trainmaster/bin/pip install --require-hashes --no-deps --requirement requirements/sandbox.txt
COPY sandbox sandbox
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist-sandbox ./sandbox \
 && /opt/trainmaster/bin/pip install --no-index --no-deps /dist-sandbox/*.whl \
 && /opt/trainmaster/bin/pip check

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/trainmaster/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --create-home trainmaster \
 && install --directory --owner=trainmaster --group=trainmaster /var/lib/trainmaster /var/lib/sandbox
STOPSIGNAL SIGTERM

FROM base AS sandbox
COPY --from=build-sandbox /opt/trainmaster /opt/trainmaster
USER 10001
VOLUME /var/lib/sandbox
EXPOSE 8800
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s \
  CMD ["test", "-f", "/var/lib/sandbox/sandbox.json"]
ENTRYPOINT ["trainmaster"]
CMD ["sandbox", "--host", "0.0.0.0", "--port", "8800", "--state", "/var/lib/sandbox"]

# The last stage is what `docker build` makes unless it is told otherwise.
FROM base AS worker
COPY --from=build /opt/trainmaster /opt/trainmaster
ENV TRAINMASTER_RESULT_STORE=/var/lib/trainmaster/results TRAINMASTER_HEALTH_FILE=/tmp/trainmaster-healthy
USER 10001
VOLUME /var/lib/trainmaster
# Touched every 4 s by a worker or gateway that is well; nothing of ours is started to look at it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=1 \
  CMD test -n "$(find "$TRAINMASTER_HEALTH_FILE" -newermt '-15 seconds')"
ENTRYPOINT ["trainmaster"]
CMD ["worker"]
