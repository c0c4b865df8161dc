# One image for every process: `docker run IMAGE gateway`, `docker run IMAGE projector`, ... Servers come from elsewhere.

FROM python:3.13-slim AS build

WORKDIR /source
# What there is to copy, .dockerignore says.
COPY . .

# First every wheel, ours among them, then an installation from these alone: what is installed is what was built here.
RUN ["pip", "wheel", "--no-cache-dir", "--wheel-dir", "/wheels", "-c", "constraints.txt", ".[worker]"]
RUN ["python", "-m", "venv", "/opt/kommo-streams"]
RUN ["/opt/kommo-streams/bin/pip", "install", "--no-cache-dir", "--no-index", "--find-links", "/wheels", "kommo-streams[worker]"]


FROM python:3.13-slim

COPY --from=build /opt/kommo-streams /opt/kommo-streams

# Whatever process runs, it listens on one port, which the health check below asks.
ENV PATH=/opt/kommo-streams/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KOMMO_STREAMS_GATEWAY_HOST=0.0.0.0 \
    KOMMO_STREAMS_GATEWAY_PORT=8080 \
    KOMMO_STREAMS_INGEST_HOST=0.0.0.0 \
    KOMMO_STREAMS_INGEST_PORT=8080 \
    KOMMO_STREAMS_PROJECTOR_HOST=0.0.0.0 \
    KOMMO_STREAMS_PROJECTOR_PORT=8080 \
    KOMMO_STREAMS_WORKER_HOST=0.0.0.0 \
    KOMMO_STREAMS_WORKER_PORT=8080 \
    KOMMO_STREAMS_DASHBOARD_HOST=0.0.0.0 \
    KOMMO_STREAMS_DASHBOARD_PORT=8080

WORKDIR /tmp
USER 10001:10001
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8080/livez', timeout=4)"]

STOPSIGNAL SIGTERM
ENTRYPOINT ["kommo-streams"]
CMD ["--help"]
