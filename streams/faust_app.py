"""The Faust app of one agent: Faust's defaults, corrected where they lose messages or stand still.

What is measured of Faust 0.15.3, and why each setting is as it is, stands in docs/decisions/0018-faust-agents.md.
"""

from __future__ import annotations

import ssl
from typing import Any

import faust

from runtime.settings import Settings
from streams.connection import connection
from streams.faust_transport import GaplessTransport
from streams.gaps import OffsetTracker
from streams.topics import MIB, physical

SESSION_SECONDS = 6.0
METADATA_MS = 5_000


class _App(faust.App):
    """An app without files, since where it runs may not be writable, whose transport passes no record over."""

    tracker: OffsetTracker

    def _new_transport(self) -> GaplessTransport:
        return GaplessTransport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        return


def faust_app(settings: Settings, agent: str) -> faust.App:
    """Return the app of an agent, in a consumer group of its own. Raises StartError for wrong Kafka settings."""
    options = connection(settings, agent)
    brokers = [f"kafka://{broker.strip()}" for broker in settings.kafka_bootstrap_servers.split(",")]
    app = _App(
        f"{settings.kafka_prefix}kommo-streams.{agent}",
        broker=brokers,
        broker_client_id=options["client_id"],
        broker_credentials=_credentials(options),
        broker_session_timeout=SESSION_SECONDS,  # a worker that is killed costs this long; the default is 60 s
        broker_heartbeat_interval=1.5,
        broker_rebalance_timeout=20.0,
        broker_commit_interval=0.5,
        consumer_auto_offset_reset="earliest",  # a group that was idle too long reads again: admission knows its ids
        consumer_max_fetch_size=4 * MIB,
        # A broker that has just come back may not know the topic yet, and Faust then gives its partitions to nobody
        # until the metadata is asked for again: by default for 5 minutes.
        consumer_metadata_max_age_ms=METADATA_MS,
        stream_wait_empty=False,  # else one that is stuck holds up every rebalance, and SIGTERM
        stream_buffer_maxsize=4096,
        topic_allow_declare=False,  # topics are declared in streams/topics.py
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        autodiscover=False,
        store="memory://",
    )
    app.tracker = OffsetTracker(settings)
    return app


def faust_topic(app: faust.App, settings: Settings, name: str) -> Any:
    """Return a topic of the project for an agent: keys and values as bytes, as they are."""
    return app.topic(
        physical(settings, name), key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )


def _credentials(options: dict[str, Any]) -> Any:
    context: ssl.SSLContext | None = options.get("ssl_context")
    if options["security_protocol"] == "PLAINTEXT":
        return None
    if options["security_protocol"] == "SSL":
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        mechanism=options["sasl_mechanism"],
        username=options["sasl_plain_username"],
        password=options["sasl_plain_password"],
        ssl_context=context,
    )
