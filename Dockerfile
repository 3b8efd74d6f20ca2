# The gateway as one container: `llm-gateway serve`, see docs/container.md.
#   docker build -t llm-gateway .
#   docker run --rm -p 127.0.0.1:8080:8080 -e LLM_GATEWAY_TEST_MODE=true -e LLM_GATEWAY_ACCESS=open llm-gateway

# A tag, not a digest, so that it builds wherever a mirror has the tag. To pin it harder, append the digest that
# `docker buildx imagetools inspect python:3.13-slim` prints; Dependabot keeps tag and digest current.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# What changes rarely comes first: the dependencies are installed again only when their pins change.
COPY requirements/build.txt requirements/image.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv --without-pip /opt/llm-gateway \
    && python -m pip --python /opt/llm-gateway/bin/python install --no-compile --only-binary :all: --require-hashes -r requirements/image.txt \
    && python -m pip install --only-binary :all: --require-hashes -r requirements/build.txt

COPY pyproject.toml ./
COPY requirements/cli.in requirements/server.in requirements/
COPY layers/dependencies/requirements.in layers/dependencies/
COPY layers/gateway/llm_gateway layers/gateway/llm_gateway
RUN python -m pip wheel --no-deps --no-build-isolation --no-cache-dir --wheel-dir dist . \
    && python -m pip --python /opt/llm-gateway/bin/python install --no-compile --no-deps --no-index dist/*.whl \
    && /opt/llm-gateway/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/llm-gateway


FROM python:3.13-slim
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="LLM Gateway" \
      org.opencontainers.image.description="The gateway between services and language models: stored prompts, one deadline, exact accounting." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The base image has no bytecode of the standard library, and a read-only file system could not keep any.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x '/(site-packages|tests?|ensurepip|idlelib|lib2to3|tkinter)/' \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin gateway \
    && install --directory --owner 10001 --group 10001 /data

COPY --from=build /opt/llm-gateway /opt/llm-gateway
COPY prompts /prompts

ENV PATH="/opt/llm-gateway/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LLM_GATEWAY_HOST=0.0.0.0 \
    LLM_GATEWAY_HTTP_PORT=8080 \
    LLM_GATEWAY_GRPC_PORT=50051 \
    LLM_GATEWAY_PROMPT_FOLDER=/prompts \
    LLM_GATEWAY_USAGE_FILE=/data/usage.db

# By number, so that Kubernetes' runAsNonRoot can tell.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 50051
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 CMD ["python", "-m", "llm_gateway.entrypoints.server.healthcheck"]
ENTRYPOINT ["llm-gateway"]
CMD ["serve"]
