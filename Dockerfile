# syntax=docker/dockerfile:1
# One image for every role (Ray node, service, dashboard, scheduler, migrations); the command decides.
#   docker build --target cpu  -t hero-ray:0.1.0-cpu  .
#   docker build --target cuda -t hero-ray:0.1.0-cuda .
ARG PYTHON_IMAGE=python:3.11.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN python -m venv /opt/venv && pip install "pip==25.3"
WORKDIR /app
# Dependencies first and from pyproject.toml alone: editing code rebuilds only the layers behind them.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = ('hub', 'postgres', 'dashboard', 'serve', 'schedule', 'energy'); \
    print(*p['dependencies'], *(d for e in extras for d in p['optional-dependencies'][e]), sep='\n')" > /requirements.txt

FROM build AS build-cpu
# The local version `2.13.0+cpu` satisfies the pin and is preferred over the CUDA build of the same version.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --extra-index-url "${TORCH_INDEX}" -c constraints.txt -r /requirements.txt
COPY . .
RUN pip install --no-deps -e .

FROM build AS build-cuda
# torch's default wheels bring their CUDA libraries; the host brings only the driver.
RUN pip install -c constraints.txt -r /requirements.txt
COPY . .
RUN pip install --no-deps -e .

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
