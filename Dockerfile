FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY router router
COPY flow flow
COPY scorers scorers
COPY sim sim
RUN python -m venv /opt/weft \
 && /opt/weft/bin/pip install --no-cache-dir -c requirements.lock .
# The kernels are compiled here, so that a container starts at once. On a CPU of another kind they are compiled
# again at start-up, into the cache directory.
ENV NUMBA_CACHE_DIR=/opt/weft/kernels
RUN /opt/weft/bin/weft warm-up

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home weft
COPY --from=build --chown=weft:weft /opt/weft /opt/weft
ENV PATH=/opt/weft/bin:$PATH NUMBA_CACHE_DIR=/opt/weft/kernels PYTHONUNBUFFERED=1
USER weft
EXPOSE 8080 9002
ENTRYPOINT ["weft"]
CMD ["serve", "--listen", "0.0.0.0:8080"]
