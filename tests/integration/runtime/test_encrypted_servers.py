"""Kafka behind SASL and TLS, PostgreSQL and Redis behind TLS: the settings reach every client of every process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import trustme
from aiokafka.errors import KafkaError
from cryptography.hazmat.primitives import serialization

import service.embedded.kafka
from agents.ingest import ingest
from dashboard.process import dashboard
from gateway.process import gateway
from gateway.tokens import Keyring, Token
from projections.projector import projector
from runtime.cache import Cache
from runtime.settings import Settings
from streams.accounts import read_accounts
from streams.topics import ensure_topics
from tests.support.installation import KEYS, redis_url_of
from tests.support.ports import free_port
from tests.support.servers import Servers, own_servers, worker_number
from tests.support.waiting import eventually, running

PASSWORD = "open-sesame"


class Encrypted:
    """A Kafka of this test's own that takes SASL over TLS, and TLS ends for the other servers; one authority of all."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.certificate = self.authority.issue_cert("127.0.0.1", "localhost")
        self.cafile = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.cafile))
        self.kafka_port = free_port()
        chain = b"".join(blob.bytes() for blob in self.certificate.cert_chain_pems)
        key = serialization.load_pem_private_key(self.certificate.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.keystore = folder / "kafka.pem"
        self.keystore.write_bytes(key + chain)

    def with_secure_listener(self, properties: str) -> str:
        """server.properties with a listener more."""
        secure, name = f"SECURE://127.0.0.1:{self.kafka_port}", "listener.name.secure"
        text = properties.replace(",CONTROLLER://", f",{secure},CONTROLLER://")
        text = text.replace("\nlistener.security", f",{secure}\nlistener.security", 1)
        text = text.replace("CONTROLLER:PLAINTEXT", "CONTROLLER:PLAINTEXT,SECURE:SASL_SSL")
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return text + "\n".join(
            [
                f"{name}.sasl.enabled.mechanisms=PLAIN",
                f'{name}.plain.sasl.jaas.config={module} required user_streams="{PASSWORD}";',
                f"{name}.ssl.keystore.type=PEM",
                f"{name}.ssl.keystore.location={self.keystore}",
                "",
            ]
        )

    @contextlib.asynccontextmanager
    async def tls_end(self, url: str, *, postgres: bool = False) -> AsyncIterator[int]:
        """A TLS end in front of a server of this machine (neither binary is built with TLS); yields its port."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.certificate.configure_cert(context)
        target = urlsplit(url)

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if postgres:
                # PostgreSQL's clients ask first: https://www.postgresql.org/docs/current/protocol-flow.html
                if await reader.readexactly(8) != b"\0\0\0\x08\x04\xd2\x16\x2f":
                    writer.close()
                    return
                writer.write(b"S")
                await writer.start_tls(context)
            inner_reader, inner_writer = await asyncio.open_connection(target.hostname, target.port)
            await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer))

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else context)
        yield server.sockets[0].getsockname()[1]
        server.close()


@pytest.fixture
def encrypted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encrypted]:
    made, plain = Encrypted(tmp_path), service.embedded.kafka.broker_properties
    monkeypatch.setattr(
        service.embedded.kafka, "broker_properties", lambda *given: made.with_secure_listener(plain(*given))
    )
    with own_servers(f"encrypted-{worker_number()}", only=["kafka"]) as servers:
        yield made
        servers.embedded.kafka.kill()  # nobody needs a clean leave


async def test_a_delivery_goes_the_whole_way_over_encrypted_connections(
    encrypted: Encrypted, servers: Servers, database: str
) -> None:
    async with (
        encrypted.tls_end(servers.redis_url) as redis_port,
        encrypted.tls_end(database, postgres=True) as postgres_port,
    ):
        address, redis = urlsplit(database), urlsplit(redis_url_of(servers))
        login = f"{address.username}:{address.password}@127.0.0.1:{postgres_port}{address.path}"
        settings = Settings(
            kafka_bootstrap_servers=f"127.0.0.1:{encrypted.kafka_port}",
            kafka_security_protocol="SASL_SSL",
            kafka_sasl_mechanism="PLAIN",
            kafka_sasl_username="streams",
            kafka_sasl_password=PASSWORD,
            kafka_ssl_cafile=str(encrypted.cafile),
            webhooks_partitions=1,
            events_partitions=1,
            commands_partitions=1,
            database_url=f"postgresql://{login}?sslmode=verify-full&sslrootcert={encrypted.cafile}",
            redis_url=f"rediss://:{redis.password}@127.0.0.1:{redis_port}{redis.path}?ssl_ca_certs={encrypted.cafile}",
            gateway_keys=KEYS,
            gateway_port=free_port(),
            dashboard_port=free_port(),
            ingest_port=free_port(),
            projector_port=free_port(),
        )
        await _goes_the_whole_way(settings)
        cache = Cache(settings)

        async def kept() -> bool:
            await cache.put("k", b"v", 5000)
            return await cache.get("k") == b"v"

        await eventually(kept)
        await cache.close()
        for wrong in ({"kafka_sasl_password": "guess"}, {"kafka_ssl_cafile": None}):
            with pytest.raises((KafkaError, OSError)):
                await ensure_topics(Settings(**{**settings.model_dump(exclude_unset=True), **wrong}))
        with pytest.raises(ssl.SSLError):
            await asyncpg.connect(
                f"postgresql://{login}?sslmode=verify-full&sslrootcert={_another_authority(encrypted)}"
            )


def _another_authority(encrypted: Encrypted) -> Path:
    file = encrypted.cafile.with_name("other.pem")
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


async def _goes_the_whole_way(settings: Settings) -> None:
    async with (
        running(lambda stop: gateway(settings, stop)),
        running(lambda stop: ingest(settings, stop)),
        running(lambda stop: projector(settings, stop)),
        running(lambda stop: dashboard(settings, stop)),
        httpx.AsyncClient() as client,
    ):
        for port in (settings.gateway_port, settings.ingest_port, settings.projector_port, settings.dashboard_port):

            async def ready(port: int = port) -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                return False

            await eventually(ready, 40)
        token = Keyring.from_settings(settings).sign(Token(5, 1))
        body = "leads[add][0][id]=7&leads[add][0][name]=Sealed&leads[add][0][last_modified]=1763000000"
        answer = await client.post(f"http://127.0.0.1:{settings.gateway_port}/webhooks/{token}", content=body)
        assert answer.status_code == 200
        connection = await asyncpg.connect(settings.database_url.get_secret_value())

        async def visible() -> bool:
            return await connection.fetchval("SELECT title FROM kommo.recent_updates") == "Sealed"

        await eventually(visible)
        await connection.close()
    assert (await read_accounts(settings)).get(5).lowest_generation == 1
