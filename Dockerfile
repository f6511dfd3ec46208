# An image with gan-bench and its experiments.
#
#   CPU:  docker build -t gan-bench .
#   GPU:  docker build -t gan-bench:cuda --build-arg BASE=nvidia/cuda:13.2.1-base-ubuntu24.04 \
#           --build-arg TORCH_INDEX= .
#   use:  docker run --rm -v "$PWD/mlruns:/work/mlruns" gan-bench run dcgan_vs_mlp
#
# A base without Python gets it from apt-get (3.11 or newer). Without TORCH_INDEX pip takes torch from
# its usual index, with its CUDA libraries; a GPU also needs the host's driver and `docker run --gpus
# all`.
ARG BASE=python:3.12-slim-trixie
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/opt/gan-bench/bin:$PATH

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN if ! command -v python3 > /dev/null; then \
      apt-get update \
      && apt-get install -y --no-install-recommends python3 python3-venv \
      && rm -rf /var/lib/apt/lists/*; \
    fi \
    && python3 -m venv /opt/gan-bench

# torch first: its layer is the largest, and changes least.
WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt torch torchvision \
      ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"}

COPY setup.cfg pyproject.toml MANIFEST.in README.md LICENSE ./
COPY gan_bench ./gan_bench
COPY experiments ./experiments
RUN pip install -c constraints.txt .

RUN useradd --create-home --uid 10001 bench && mkdir /work && chown bench /work
USER 10001
WORKDIR /work
VOLUME ["/work/mlruns", "/work/data"]

ENTRYPOINT ["gan-bench"]
CMD ["--help"]
