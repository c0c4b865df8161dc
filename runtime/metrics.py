"""The Prometheus metrics of all processes, in one place; no label ever names an account."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)

DELIVERIES = Counter("kommo_streams_deliveries_total", "Webhook deliveries acknowledged by Kafka.")
DELIVERY_BYTES = Counter("kommo_streams_delivery_bytes_total", "Bytes of the acknowledged deliveries' bodies.")
ANSWERS = Counter("kommo_streams_gateway_answers_total", "Answers of the gateway, by HTTP status.", ["status"])
ANSWER_SECONDS = Histogram(
    "kommo_streams_gateway_answer_seconds", "From a delivery's whole body to its answer.", buckets=_SECONDS
)
NEAR_DISABLING = Gauge(
    "kommo_streams_gateway_accounts_near_disabling",
    "Accounts with that many bad answers of this gateway process in 2 hours, or more (Kommo disables above 100).",
    ["threshold"],
)
WORST_ACCOUNT = Gauge(
    "kommo_streams_gateway_worst_account_bad_answers",
    "Bad answers of this gateway process in 2 hours to the account that got most of them.",
)
EVENTS = Counter("kommo_streams_events_total", "Events sent to kommo.events, by type.", ["type"])
DEAD_LETTERS = Counter("kommo_streams_dead_letters_total", "Records set aside, by error class.", ["error_class"])
ERRORS = Counter(
    "kommo_streams_errors_total",
    "Errors logged or reported, each once, by error class and the part of the program that met them.",
    ["error_class", "part"],
)
BATCH_ROWS = Histogram("kommo_streams_batch_rows", "Records in a batch, by reader.", ["reader"], buckets=_ROWS)
BATCH_SECONDS = Histogram(
    "kommo_streams_batch_seconds",
    "Handling one batch until it is durable, by reader.",
    ["reader"],
    buckets=_SECONDS,
)
LAG = Gauge("kommo_streams_lag_records", "Records not yet read, by reader and partition.", ["reader", "partition"])
WRITE_SECONDS = Histogram(
    "kommo_streams_write_seconds",
    "One PostgreSQL transaction of a projection.",
    ["projection"],
    buckets=_SECONDS,
)
END_TO_END_SECONDS = Histogram(
    "kommo_streams_end_to_end_seconds",
    "From the gateway's receipt of a delivery to its committed rows.",
    ["projection"],
    buckets=_SECONDS,
)
PROJECTION_STOPPED = Gauge(
    "kommo_streams_projection_stopped", "1 where a projection stopped and needs a person.", ["projection"]
)
MISPLACED_KEYS = Counter(
    "kommo_streams_misplaced_keys_total", "Records found in another partition than their key's.", ["topic"]
)
CACHE = Counter("kommo_streams_cache_total", "Reads of the dashboard's cache, by outcome.", ["outcome"])
LOG_LINES_DROPPED = Counter("kommo_streams_log_lines_dropped_total", "Log lines dropped because none read them.")
COMMAND_ATTEMPTS = Counter(
    "kommo_streams_command_attempts_total",
    "Attempts at commands, by action and how they ended (succeeded, retried, failed, unknown).",
    ["action", "outcome"],
)
COMMAND_SECONDS = Histogram(
    "kommo_streams_command_seconds", "From a command's claim to its attempt's end.", ["action"], buckets=_SECONDS
)
COMMANDS_ADMITTED = Counter("kommo_streams_commands_admitted_total", "Commands taken on, by action.", ["action"])
COMMANDS_RUNNING = Gauge("kommo_streams_commands_running", "Commands that this worker is carrying out now.")
LEASES = Gauge("kommo_streams_command_leases", "Accounts that this worker works for.")
CIRCUITS_OPEN = Gauge(
    "kommo_streams_circuits_open",
    "Accounts of this worker whose Kommo fails again and again at a kind of endpoint: only probes go there.",
    ["kind"],
)
ADDRESS_RATE = Gauge(
    "kommo_streams_kommo_address_rate",
    "Requests a second that this worker's outgoing address is slowed to (several accounts were told 429); -1: not.",
)
ADDRESS_BLOCKED = Gauge(
    "kommo_streams_kommo_address_blocked_seconds", "For how long yet Kommo blocks this worker's outgoing address."
)
