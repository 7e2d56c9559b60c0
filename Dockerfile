# pnpvideo on the CPU:
#
#     docker build -t pnpvideo .
#     docker run --rm -v "$PWD:/clips" pnpvideo translate drawing.png --prompt "a 3D render of a fox" -o fox.png
#
# For an NVIDIA GPU leave out the line with --index-url, so that pip takes PyTorch's CUDA build, and run
# with `docker run --gpus all` (it needs NVIDIA's container toolkit on the host).
FROM python:3.11-slim-bookworm
# OpenCV asks for these two.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/pnpvideo
COPY constraints.txt pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch
COPY pnpvideo pnpvideo
RUN pip install --no-cache-dir -c constraints.txt .
# Results belong to whoever runs the container: `docker run --user "$(id -u):$(id -g)"`.
ENV HF_HOME=/clips/.cache/huggingface
WORKDIR /clips
ENTRYPOINT ["pnpvideo"]
