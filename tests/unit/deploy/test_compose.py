"""docker-compose.yml against the Compose Specification's schema, and against what this project promises of it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from agents.kommo.vault import Vault
from gateway.tokens import Keyring
from runtime.settings import PREFIX, Settings
from tests.support import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

STORES = {"kafka", "postgres", "redis"}
OURS = {"init", "gateway", "ingest", "projector", "worker", "dashboard"}
PUBLISHED = {"gateway", "dashboard"}
WAY_OUT = PUBLISHED | {"worker"}  # the worker calls Kommo; nobody calls it
PROCESSES = OURS - {"init"}

SECRET = re.compile(r"PASSWORD|_KEYS|TOKEN|SECRET")
VARIABLE = re.compile(r"\$\{([A-Z_]+)(?:(:?[-?+])([^}]*))?\}")

ours = pytest.mark.parametrize("name", sorted(OURS))
processes = pytest.mark.parametrize("name", sorted(PROCESSES))


def schema() -> dict[str, Any]:
    """The schema of the Compose Specification, as the package check-jsonschema brings it."""
    package = metadata.distribution("check-jsonschema")
    file = Path(str(package.locate_file("check_jsonschema/builtin_schemas/vendor/compose-spec.json")))
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def variables(text: str = TEXT) -> Iterator[tuple[str, str, str]]:
    """(name, operator, default or message) of every ${...}."""
    for match in VARIABLE.finditer("\n".join(line.partition("#")[0] for line in text.splitlines())):
        yield match[1], match[2] or "", match[3] or ""


def passed_through() -> set[str]:
    """Settings without a value: as .env has them, and not in the container where it has not."""
    named = (service.get("environment", {}) for service in SERVICES.values())
    return {name for environment in named for name, value in environment.items() if value is None}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (str(key), *strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    else:
        yield str(value)


def test_it_follows_the_specification_whose_schema_notices_a_wrong_word() -> None:
    validator = Draft202012Validator(schema())
    assert [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(COMPOSE)] == []
    assert not validator.is_valid({"services": {"a": {"image": "x", "healthchek": {}}}})


def test_the_services_are_the_servers_and_our_processes() -> None:
    assert set(SERVICES) == STORES | OURS


@ours
def test_each_of_ours_runs_the_subcommand_of_its_name(name: str) -> None:
    assert SERVICES[name]["command"] == [name]
    assert "entrypoint" not in SERVICES[name]


def test_every_setting_exists() -> None:
    known = {f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    used = {text for text in strings(COMPOSE) if text.startswith(PREFIX)}
    assert len(used) > 8
    assert used <= known
    mentioned = set(re.findall(rf"{PREFIX}[A-Z_]+", TEXT + (ROOT / "Dockerfile").read_text(encoding="utf-8")))
    assert {name.rstrip("_") for name in mentioned} - {PREFIX.rstrip("_")} <= known


@processes
def test_each_process_listens_where_its_health_check_asks(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert environment[f"{PREFIX}{name.upper()}_HOST"] == "0.0.0.0"
    port = environment[f"{PREFIX}{name.upper()}_PORT"]
    check = SERVICES[name]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    assert f"http://127.0.0.1:{port}/readyz" in check[3]
    compile(check[3], name, "exec")


@pytest.mark.parametrize("name", sorted(STORES))
def test_each_server_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"  # no shell
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


@ours
def test_ours_can_do_nothing_but_their_work(name: str) -> None:
    service = SERVICES[name]
    uid, _, gid = service["user"].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert service["read_only"] is True
    assert [entry.partition(":")[0] for entry in service["tmpfs"]] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "volumes", "devices", "pid", "ipc", "network_mode"} & set(service)
    assert not {"container_name", "hostname"} & set(service)  # there may be several of it
    assert service["stop_grace_period"] == "15s"


@pytest.mark.parametrize("name", sorted(STORES))
def test_a_server_gets_no_new_privileges_and_not_the_hosts_network(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode"} & set(SERVICES[name])


def test_what_stays_comes_back_and_what_is_done_once_does_not() -> None:
    assert {SERVICES[name]["restart"] for name in STORES | PROCESSES} == {"unless-stopped"}
    assert SERVICES["init"]["restart"] == "no"


@processes
def test_processes_wait_for_init_and_for_healthy_servers(name: str) -> None:
    waits = {other: how["condition"] for other, how in SERVICES[name]["depends_on"].items()}
    assert waits["init"] == "service_completed_successfully"
    assert waits["kafka"] == "service_healthy"
    needs_tables = f"{PREFIX}DATABASE_URL" in SERVICES[name]["environment"]
    assert (waits.get("postgres") == "service_healthy") == needs_tables


def test_init_waits_for_what_it_sets_up() -> None:
    assert SERVICES["init"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("kafka", "postgres")}


def test_only_the_doors_are_published_and_on_this_server_only() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == PUBLISHED
    for name in PUBLISHED:
        (port,) = SERVICES[name]["ports"]
        assert port["host_ip"] == "${BIND_ADDRESS:-127.0.0.1}"
        assert port["target"] == SERVICES[name]["environment"][f"{PREFIX}{name.upper()}_PORT"]


def test_the_servers_are_on_a_network_without_a_way_out() -> None:
    assert COMPOSE["networks"]["backend"]["internal"] is True
    for name in STORES | (OURS - WAY_OUT):
        assert SERVICES[name]["networks"] == ["backend"]
    for name in WAY_OUT:  # a published port needs a network with a way out
        assert set(SERVICES[name]["networks"]) == {"backend", "edge"}


def test_secrets_have_no_default_and_must_be_set() -> None:
    secrets = {found for found in variables() if SECRET.search(found[0])}
    assert {name for name, _, _ in secrets} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "GATEWAY_KEYS", "TOKEN_KEYS"}
    for name, operator, message in secrets:
        assert operator == ":?", name
        assert message


def test_secrets_come_from_variables_only() -> None:
    secret_settings = {
        f"{PREFIX}{name}".upper()
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if value is None:
                continue  # from .env alone
            if name in secret_settings or SECRET.search(name) or name == "REDISCLI_AUTH":
                # An optional secret is empty where it is not set; no secret has a value of its own.
                optional = name == f"{PREFIX}INTEGRATIONS"
                assert re.search(r"\$\{[A-Z_]+:-\}$" if optional else r"\$\{[A-Z_]+:\?", str(value)), name
    command = SERVICES["redis"]["command"]
    assert command[command.index("--requirepass") + 1].startswith("${REDIS_PASSWORD:?")


def test_a_name_means_the_same_everywhere() -> None:
    forms: dict[str, set[tuple[str, str]]] = {}
    for name, operator, text in variables():
        forms.setdefault(name, set()).add((operator, text))
    assert {name: found for name, found in forms.items() if len(found) > 1} == {}
    assert {operator for found in forms.values() for operator, _ in found} == {":?", ":-"}
    assert len(re.findall(r"\$\{", TEXT)) == sum(1 for _ in variables())


def test_the_gateway_knows_no_database() -> None:
    assert not any("DATABASE" in name or "REDIS" in name for name in SERVICES["gateway"]["environment"])
    assert "POSTGRES_PASSWORD" not in str(SERVICES["gateway"])


@pytest.mark.parametrize(("keys", "owner"), [("GATEWAY_KEYS", "gateway"), ("TOKEN_KEYS", "worker")])
def test_keys_are_known_to_one_process_only(keys: str, owner: str) -> None:
    assert [name for name in sorted(SERVICES) if keys in str(SERVICES[name])] == [owner]


def test_the_worker_has_what_speaking_to_kommo_and_sending_mail_needs() -> None:
    names = {name.removeprefix(PREFIX) for name in SERVICES["worker"]["environment"]}
    assert names >= {"DATABASE_URL", "TOKEN_KEYS", "INTEGRATIONS", "OAUTH_REDIRECT_URI", "SMTP_URL", "MAIL_FROM"}
    # An empty one is no address, and would end the worker at its start.
    assert passed_through() == {f"{PREFIX}{name}" for name in ("OAUTH_REDIRECT_URI", "SMTP_URL", "MAIL_FROM")}


def test_data_lie_in_named_volumes() -> None:
    wanted = {"kafka": "kafka-data:/var/lib/kafka/data", "postgres": "postgres-data:/var/lib/postgresql"}
    assert {name: service["volumes"] for name, service in SERVICES.items() if "volumes" in service} == {
        name: [volume] for name, volume in wanted.items()
    }
    assert set(COMPOSE["volumes"]) == {volume.partition(":")[0] for volume in wanted.values()}
    assert SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"] == wanted["kafka"].partition(":")[2]


def test_kafka_is_a_single_broker_that_takes_our_sizes() -> None:
    environment = SERVICES["kafka"]["environment"]
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert environment["KAFKA_MESSAGE_MAX_BYTES"] == environment["KAFKA_REPLICA_FETCH_MAX_BYTES"] == 11 * 1024 * 1024
    assert environment["CLUSTER_ID"].startswith("${KAFKA_CLUSTER_ID:?")
    copies = [value for name, value in environment.items() if name.endswith(("REPLICATION_FACTOR", "_ISR", "REPLICAS"))]
    assert len(copies) >= 6
    assert set(copies) == {1}
    address = environment["KAFKA_ADVERTISED_LISTENERS"].removeprefix("PLAINTEXT://")
    assert SERVICES["ingest"]["environment"][f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS"] == address


def test_redis_is_a_cache_with_a_bound() -> None:
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "allkeys-lru"
    assert options["--maxmemory"]
    assert (options["--save"], options["--appendonly"]) == ("", "no")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if name in OURS:
        assert image == SERVICES["init"]["image"]  # one image for all
        assert ("build" in SERVICES[name]) == (name == "init")
    else:
        assert re.fullmatch(r"[a-z/]+:[0-9.]+", image)


def test_logs_do_not_fill_the_disk() -> None:
    for service in SERVICES.values():
        assert {"max-size", "max-file"} <= set(service["logging"]["options"])


def test_the_example_names_every_variable_and_sets_no_secret() -> None:
    lines = (ROOT / "deploy" / ".env.example").read_text(encoding="utf-8").splitlines()
    given = {match[1]: match[2] for line in lines if (match := re.fullmatch(r"#?([A-Z_]+)=(.*)", line))}
    needed = {name: (operator, text) for name, operator, text in variables()}
    assert set(given) == set(needed) | passed_through()
    assert all(f"#{name}=" in "\n".join(lines) for name in passed_through())
    for name, (operator, text) in needed.items():
        assert given[name] == ("" if operator == ":?" else text), name
        assert (f"#{name}=" in "\n".join(lines)) == (operator == ":-"), name


def test_the_keys_made_as_the_example_says_are_right() -> None:
    text = (ROOT / "deploy" / ".env.example").read_text(encoding="utf-8")
    made = {}
    for name in ("GATEWAY_KEYS", "TOKEN_KEYS"):
        (command,) = re.findall(rf"For example: (python3 -c .*)\n{name}=$", text, re.MULTILINE)
        made[name.lower()] = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=True
        ).stdout.strip()
    settings = Settings(**made)
    assert len(base64.urlsafe_b64decode(made["token_keys"])) == 32
    assert settings.token_keys is not None
    Vault.from_settings(settings)
    Keyring.from_settings(settings)
