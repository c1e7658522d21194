# dfw in a container: the README's two commands.
#
#   docker build -t dfw .                                            # PyTorch's default build: a GPU, and a CPU too
#   docker build -t dfw --build-arg PIP_EXTRA_INDEX_URL=ADDRESS .    # ADDRESS of PyTorch's CPU build: a tenth as large
#   docker run --rm -v "$PWD/runs:/dfw/runs" -v dfw-cache:/cache dfw
#   docker run --rm -v "$PWD/runs:/dfw/runs" -v dfw-cache:/cache --gpus all dfw run dreamfusion-sd prompt="a corgi"
#
# The selector on pytorch.org shows the address, after --index-url. Runs go to /dfw/runs, and downloaded models and compiled
# kernels to /cache.
FROM python:3.11-slim-bookworm

# On a machine without a GPU: the index of PyTorch's CPU build. pip prefers its `2.13.0+cpu` to `2.13.0`.
ARG PIP_EXTRA_INDEX_URL=""

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/cache \
    HF_HOME=/cache/huggingface \
    WARP_CACHE_PATH=/cache/warp

# Everybody may write here, so that `--user "$(id -u):$(id -g)"` makes files that belong to whoever starts the container.
RUN useradd --no-create-home --home-dir /cache --uid 1000 dfw \
    && mkdir -p /dfw/runs /cache \
    && chmod 1777 /dfw /dfw/runs /cache

WORKDIR /dfw
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY framework framework
COPY plugins plugins
COPY configs configs
RUN pip install -c constraints.txt .

USER 1000
VOLUME ["/dfw/runs", "/cache"]
ENTRYPOINT ["dfw"]
CMD ["run", "configs/dreamfusion.yaml"]
