# One file, three images, all on the same small base:
#   cpu     (the default) the server with ONNX Runtime for processors
#   gpu     the server with ONNX Runtime for CUDA; CUDA's libraries come as wheels
#   export  the only one with torch: makes bundles from checkpoints
# What each holds and how large it is: docs/deploy.md.

ARG BASE=docker.io/library/python:3.11-slim-bookworm

# hadolint ignore=DL3006
FROM ${BASE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
# libseccomp confines the decode workers. Its version is Debian stable's, with its security fixes.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libseccomp2 \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 xclip \
    && useradd --uid 10001 --gid xclip --home-dir /tmp --no-create-home --shell /usr/sbin/nologin xclip
WORKDIR /app

# --- the version, which stands in pyproject.toml alone, as Python's metadata ---------------------
FROM base AS version
COPY pyproject.toml ./
RUN python -c "import pathlib, tomllib; \
version = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']['version']; \
folder = pathlib.Path('metadata/xclip_serve-' + version + '.dist-info'); folder.mkdir(parents=True); \
(folder / 'METADATA').write_text('Metadata-Version: 2.1\\nName: xclip-serve\\nVersion: ' + version)"

# --- what the server is made of, without torch --------------------------------------------------
FROM base AS code
COPY --from=version /app/metadata ./
COPY model/__init__.py model/command_line.py model/files.py model/progress.py model/
COPY model/inputs model/inputs
COPY model/data/__init__.py model/data/errors.py model/data/
COPY model/data/lists model/data/lists
COPY export/__init__.py export/
COPY export/bundle export/bundle
COPY export/runtime export/runtime
COPY service service
COPY xclip_serve xclip_serve
COPY LICENSE ./
RUN python -m compileall -q .

# --- exact packages, held to their hashes; pip itself stays behind ------------------------------
FROM base AS packages-cpu
COPY deploy/requirements-cpu.lock /tmp/
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --require-hashes --requirement /tmp/requirements-cpu.lock \
    && pip uninstall --yes --quiet pip setuptools

FROM base AS packages-gpu
COPY deploy/requirements-gpu.lock /tmp/
RUN python -m venv /opt/venv \
    && pip install --no-cache-dir --require-hashes --requirement /tmp/requirements-gpu.lock \
    && pip uninstall --yes --quiet pip setuptools

# torch's processor-only wheels are not on the usual index, so hashes cannot hold this one: it is
# pinned by version. An empty TORCH_INDEX takes torch from the usual index, with CUDA, and is large.
FROM base AS packages-export
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# cpu,export,train for an image that trains: deploy/kubernetes/training
ARG EXTRAS=cpu,export
COPY pyproject.toml constraints.txt README.md LICENSE /src/
RUN python -m venv /opt/venv \
    && mkdir /src/model /src/export /src/service \
    && pip install --no-cache-dir --constraint /src/constraints.txt \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "/src[$EXTRAS]" \
    && pip uninstall --yes --quiet xclip-serve pip

# --- images -------------------------------------------------------------------------------------
FROM base AS export
COPY --from=version /app/metadata ./
LABEL org.opencontainers.image.title="xclip-serve export" \
      org.opencontainers.image.description="Makes X-CLIP bundles from checkpoints" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=packages-export /opt/venv /opt/venv
COPY model model
COPY export export
COPY service service
COPY xclip_serve xclip_serve
COPY LICENSE ./
# Named volumes that are mounted here start with these folders' owner. Checkpoints go to /hub.
RUN python -m compileall -q . && install -d -o xclip -g xclip /bundles /hub
ENV HF_HOME=/hub
VOLUME ["/bundles", "/hub"]
USER 10001:10001
ENTRYPOINT ["python", "-m", "export"]
CMD ["--help"]

FROM base AS server
LABEL org.opencontainers.image.title="xclip-serve" \
      org.opencontainers.image.description="Open-vocabulary video classification with X-CLIP" \
      org.opencontainers.image.licenses="Apache-2.0"
# Every address, over IPv6 and IPv4.
ENV XCLIP_HOST=:: \
    XCLIP_SANDBOX=require
COPY --from=code /app /app
# A named volume that is mounted here starts with this folder's owner.
RUN install -d -o xclip -g xclip /uploads
USER 10001:10001
EXPOSE 8000 8001
# The root file system may be read-only: uploads go to /tmp or XCLIP_UPLOAD_DIR, give them a volume.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=12s --start-period=60s --retries=3 \
    CMD ["python", "-m", "service.healthcheck"]
ENTRYPOINT ["python", "-m", "service"]

FROM server AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
COPY --from=packages-gpu /opt/venv /opt/venv

FROM server AS cpu
COPY --from=packages-cpu /opt/venv /opt/venv
