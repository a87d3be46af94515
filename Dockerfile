# syntax=docker/dockerfile:1
# One image for every role (Ray node, service, dashboard, scheduler, migrations); the command decides.
#   docker build --target cpu  -t hero-ray:0.1.0-cpu  .
#   docker build --target cuda -t hero-ray:0.1.0-cuda .
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_DEPS=1 PATH=/opt/venv/bin:$PATH
WORKDIR /app
# The lock first and alone: editing code rebuilds only the layers behind it.
COPY lock lock
RUN python -m venv /opt/venv \
    && python -m pip install --require-hashes -r lock/build.txt \
    && python -m pip install --require-hashes -r lock/runtime.txt

FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install --require-hashes --index-url "${TORCH_INDEX}" -r lock/cpu.txt
COPY . .
RUN python -m pip install --no-build-isolation -e . && python -m pip check

FROM build AS build-cuda
# torch's default wheels bring their CUDA libraries; the host brings only the driver.
RUN python -m pip install --require-hashes -r lock/cuda.txt
COPY . .
RUN python -m pip install --no-build-isolation -e . && python -m pip check

FROM ${PYTHON_IMAGE} AS runtime
ARG GIT_COMMIT=""
RUN groupadd --gid 1000 hero && useradd --uid 1000 --gid hero --create-home hero \
    && mkdir -p /models /results && chown hero:hero /models /results
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/models/hub \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_AUTH_MODE=token \
    HERO_RAY_GIT_COMMIT=${GIT_COMMIT} \
    HERO_RAY_HEALTH_URL=""
WORKDIR /app
USER hero
# A role that answers HTTP names its health page; other roles are healthy while their process lives.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; url = os.environ['HERO_RAY_HEALTH_URL']; url and u.urlopen(url, timeout=4)"]
CMD ["hero-ray", "--help"]

# Files stay root's: the running user can change neither code nor packages.
FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/venv /opt/venv
COPY --from=build-cuda /app /app

# Last, so that a build without --target gives the small image.
FROM runtime AS cpu
COPY --from=build-cpu /opt/venv /opt/venv
COPY --from=build-cpu /app /app
