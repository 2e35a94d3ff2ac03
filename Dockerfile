# sar_jax in a container, for CPUs or, with --build-arg EXTRA=tpu, for TPU VMs.
# Not built or run where this was written: there was no Docker.
#
#     docker build -t sar_jax .
#     docker build -t sar_jax:tpu --build-arg EXTRA=tpu .
#     docker run --rm -v "$PWD/runs:/app/runs" sar_jax train --config=configs/tiny.py
#
# On a TPU VM add --privileged --net=host, with which the container sees the chips.
FROM python:3.12-slim

ARG EXTRA=""
WORKDIR /app

# launch/constraints.txt: the versions that a slice's workers have too
COPY pyproject.toml setup.py README.md LICENSE launch/constraints.txt /source/
COPY sar_jax /source/sar_jax
RUN pip install --no-cache-dir -c /source/constraints.txt "/source${EXTRA:+[$EXTRA]}" \
    && rm -r /source

COPY configs configs
COPY examples examples

ENV PYTHONUNBUFFERED=1
# A signal must reach the run, which then saves; so it is process 1 itself, with no shell before it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sar_jax"]
CMD ["--help"]
