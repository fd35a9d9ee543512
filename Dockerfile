# syntax=docker/dockerfile:1
#
# Two targets: `worker`, which runs gateways and the command line too, and `sandbox`. How they are
# built, pinned and run stands in docs/deploy.md.
ARG PYTHON_IMAGE=docker.io/library/python:3.12-slim-trixie

# What the locks name, stripped and compiled: it changes with them alone.
FROM ${PYTHON_IMAGE} AS packages
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# For those whose index or authorities are their own: secrets of the build, where they are given.
ENV PIP_CONFIG_FILE=/run/secrets/pip
# Sets are written into compiled modules in their order, which is random otherwise.
ENV PYTHONHASHSEED=0
RUN apt-get update -qq && apt-get install -qq --yes --no-install-recommends binutils
WORKDIR /src
COPY requirements requirements
# The build backend comes from the lock too, so nothing unhashed is ever fetched.
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    if [[ -e /run/secrets/ca ]]; then export PIP_CERT=/run/secrets/ca; fi \
 && awk '/^[a-z]/ { on = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } on' \
      requirements/dev.txt > /tmp/backend.txt \
 && pip install --require-hashes --no-deps --requirement /tmp/backend.txt \
 && python -m venv --without-pip /opt/trainmaster \
 && pip --python /opt/trainmaster/bin/python install --no-compile \
      --require-hashes --no-deps --requirement requirements/worker.txt
COPY deploy/image/finish.sh /usr/local/bin/finish
RUN finish /opt/trainmaster

# Our own code beside them, in a folder of its own: a release changes this layer alone.
FROM packages AS programs
COPY LICENSE NOTICE README.md pyproject.toml ./
COPY client client
COPY schemas schemas
COPY worker worker
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist ./client . \
 && pip --python /opt/trainmaster/bin/python install --no-compile --no-index --no-deps \
      --prefix /own /dist/*.whl \
 && finish /own \
 && cp --archive /own/. /opt/trainmaster \
 && pip --python /opt/trainmaster/bin/python check

# The playground's stand-in for the API, with what it learns with.
FROM programs AS sandbox-programs
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca \
    if [[ -e /run/secrets/ca ]]; then export PIP_CERT=/run/secrets/ca; fi \
 && pip --python /opt/trainmaster/bin/python install --no-compile \
      --require-hashes --no-deps --requirement requirements/sandbox.txt
COPY sandbox sandbox
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist-sandbox ./sandbox \
 && pip --python /opt/trainmaster/bin/python install --no-compile --no-index --no-deps \
      /dist-sandbox/*.whl \
 && finish /opt/trainmaster \
 && pip --python /opt/trainmaster/bin/python check

# The base without what no program here needs. Its standard library is compiled: a container would do
# that at each start, and can't where its root is read-only.
FROM ${PYTHON_IMAGE} AS root
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ENV PYTHONHASHSEED=0
COPY deploy/image/trim.sh /usr/local/bin/trim
RUN trim && rm /usr/local/bin/trim

# Copied into nothing, so that what was removed weighs nothing.
FROM scratch AS base
COPY --from=root / /
ENV PATH=/opt/trainmaster/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/trainmaster
ARG PYTHON_IMAGE
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="trainmaster" \
      org.opencontainers.image.description="Event-driven queue worker for Encord's ML-models API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# By number, so that Kubernetes sees that it is not root. Any other uid works in group 0.
USER 10001
STOPSIGNAL SIGTERM

FROM base AS sandbox
COPY --from=sandbox-programs /opt/trainmaster /opt/trainmaster
ENV HOME=/var/lib/sandbox
VOLUME /var/lib/sandbox
EXPOSE 8800
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s \
  CMD ["test", "-f", "/var/lib/sandbox/sandbox.json"]
ENTRYPOINT ["trainmaster"]
CMD ["sandbox", "--host", "0.0.0.0", "--port", "8800", "--state", "/var/lib/sandbox"]

# The last stage is what `docker build` makes unless it is told otherwise.
FROM base AS worker
COPY --from=packages /opt/trainmaster /opt/trainmaster
COPY --from=programs /own /opt/trainmaster
COPY LICENSE NOTICE /usr/share/doc/trainmaster/
ENV TRAINMASTER_RESULT_STORE=/var/lib/trainmaster/results \
    TRAINMASTER_GATEWAY_FOLDER=/var/lib/trainmaster/gateway \
    TRAINMASTER_HEALTH_FILE=/tmp/trainmaster-healthy
VOLUME /var/lib/trainmaster
# Touched every 4 s by a worker or gateway that is well; nothing of ours is started to look at it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=1 \
  CMD test -n "$(find "$TRAINMASTER_HEALTH_FILE" -newermt '-15 seconds')"
ENTRYPOINT ["trainmaster"]
CMD ["worker"]
