# The command in an image: docs/containers.md shows how it is run and built.
ARG PYTHON=3.13-slim
FROM python:${PYTHON} AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY etl etl
COPY propsync propsync
RUN python -m venv /opt/propsync \
    && /opt/propsync/bin/pip install --no-cache-dir ".[excel]" \
    && /opt/propsync/bin/pip uninstall --yes pip

FROM python:${PYTHON}
LABEL org.opencontainers.image.source="https://github.com/propsync/propsync" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/propsync /opt/propsync
# The user may write into its own folder alone; jobs and exports are mounted beside the state.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /work propsync \
    && install --directory --owner=propsync --group=propsync --mode=0700 /state \
    && install --directory /work
ENV PATH=/opt/propsync/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /work
VOLUME /state
# No shell between: the command is process 1, and gets the signal that asks it to stop.
ENTRYPOINT ["/opt/propsync/bin/propsync"]
CMD ["--help"]
