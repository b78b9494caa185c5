# Two images from one file:
#   docker build --target coordinator -t fed-compute-coordinator .    (no torch)
#   docker build --target client      -t fed-compute-client .         (with torch)
# Only plain instructions, so that every builder can read it. See INSTALL_DOCKER.md.

ARG BASE_IMAGE=python:3.11-slim

# What the coordinator needs, before its source: a change of the source keeps this layer.
FROM ${BASE_IMAGE} AS install-coordinator
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/venv
COPY pyproject.toml constraints.txt LICENSE ./
RUN mkdir -p src/fed_compute \
    && touch README.md src/fed_compute/__init__.py \
    && pip --python /opt/venv/bin/python install -c constraints.txt .

FROM install-coordinator AS build-coordinator
COPY README.md ./
COPY src ./src
RUN pip --python /opt/venv/bin/python install --no-deps --force-reinstall .

FROM ${BASE_IMAGE} AS coordinator
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    FED_COMPUTE_HOST=0.0.0.0 \
    FED_COMPUTE_PORT=8000 \
    FED_COMPUTE_DATA_DIR=/data
WORKDIR /app
RUN mkdir --mode=0700 /data && chown 10001:10001 /data
COPY --from=build-coordinator /opt/venv /opt/venv
COPY examples ./examples
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=6 CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['FED_COMPUTE_PORT']), timeout=3); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["fed-compute"]
CMD ["serve"]

# What the client needs on top: torch and scikit-learn.
FROM install-coordinator AS install-client
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN pip --python /opt/venv/bin/python install -c constraints.txt ".[client]"

FROM install-client AS build-client
COPY README.md ./
COPY src ./src
RUN pip --python /opt/venv/bin/python install --no-deps --force-reinstall .

FROM ${BASE_IMAGE} AS client
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    CLIENT_STATE_DIR=/state
WORKDIR /app
RUN mkdir --mode=0700 /state && chown 10001:10001 /state
COPY --from=build-client /opt/venv /opt/venv
USER 10001:10001
VOLUME /state
ENTRYPOINT ["python", "-m", "fed_compute.client"]
