# syntax=docker/dockerfile:1
# One image for every role (Ray node, service, dashboard, scheduler, migrations); the command decides.
#   docker build --target cpu  --build-arg GIT_COMMIT="$(git rev-parse HEAD)" -t hero-ray:0.1.0-cpu  .
#   docker build --target cuda --build-arg GIT_COMMIT="$(git rev-parse HEAD)" -t hero-ray:0.1.0-cuda .
#   docker build --target vllm --build-arg GIT_COMMIT="$(git rev-parse HEAD)" -t hero-ray:0.1.0-vllm .
# Layers by how often they change: system, packages of the lock (gigabytes), source, commit. `make image-report` sizes them.
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_DEPS=1 PATH=/opt/venv/bin:$PATH
WORKDIR /app
COPY lock lock
RUN python -m venv /opt/venv \
    && python -m pip install --require-hashes -r lock/build.txt \
    && python -m pip install --require-hashes -r lock/runtime.txt

FROM packages AS packages-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python -m pip install --require-hashes --index-url "${TORCH_INDEX}" -r lock/cpu.txt

FROM packages AS packages-cuda
# torch's default wheels bring their CUDA libraries; the host brings only the driver.
RUN python -m pip install --require-hashes -r lock/cuda.txt

# vLLM beside hero_ray (docs/engines.md). Not of the lock, whose transformers and FastAPI are newer than vLLM takes: pip
# resolves both together, vLLM's version held, and torch's with it.
FROM ${PYTHON_IMAGE} AS packages-vllm
ARG VLLM=vllm==0.32.0
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
WORKDIR /app
COPY pyproject.toml .
RUN python -m venv /opt/venv \
    && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = project['optional-dependencies']; print(*project['dependencies'], *(line for name in ('hub', 'postgres', 'serve') for line in extras[name]), 'editables', 'hatchling', sep='\n')" > wanted.txt \
    && python -m pip install "${VLLM}" -r wanted.txt

FROM ${PYTHON_IMAGE} AS system
# Not for hero_ray: Ray's launcher copies files into the container with rsync and reaches workers by ssh from the head's,
# and KubeRay's probe of a RayService's workers is a wget.
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/*
# The launcher's commands, and KubeRay's where its operator says so, run in a login shell, where /etc/profile begins by
# setting PATH anew.
RUN groupadd --gid 1000 hero && useradd --uid 1000 --gid hero --create-home --shell /bin/bash hero \
    && mkdir -p /models /results && chown hero:hero /models /results \
    && echo 'export PATH=/opt/venv/bin:$PATH' > /etc/profile.d/hero-ray.sh
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/models/hub \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_AUTH_MODE=token \
    HERO_RAY_HEALTH_URL=""
WORKDIR /app
# A role that answers HTTP names its health page; other roles are healthy while their process lives.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; url = os.environ['HERO_RAY_HEALTH_URL']; url and u.urlopen(url, timeout=4)"]
CMD ["hero-ray", "--help"]

# Files stay root's: the running user can change neither code nor packages.
FROM system AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-cuda /opt/venv /opt/venv
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation -e . && python -m pip check
USER hero
ARG GIT_COMMIT=""
ENV HERO_RAY_GIT_COMMIT=${GIT_COMMIT}

FROM system AS vllm
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=packages-vllm /opt/venv /opt/venv
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation -e . && python -m pip check
USER hero
ARG GIT_COMMIT=""
ENV HERO_RAY_GIT_COMMIT=${GIT_COMMIT}

# Last, so that a build without --target gives the small image.
FROM system AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
COPY . .
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation -e . && python -m pip check
USER hero
ARG GIT_COMMIT=""
ENV HERO_RAY_GIT_COMMIT=${GIT_COMMIT}
