-- commands, version 1: one row per command, and the entities that each made or changed.
-- `state` holds what the row is worked out from (projections/commands.py). `status` is the column the view calls state.

CREATE TABLE kommo_projections.commands_v1 (
    account_id      bigint      NOT NULL,
    command_id      text        NOT NULL,
    action          text        NOT NULL,
    entity_type     text        NOT NULL,
    entity_id       text        NOT NULL,
    status          text        NOT NULL,
    attempts        bigint      NOT NULL,
    error_class     text,
    error           text,
    next_attempt_at timestamptz,
    admitted_at     timestamptz NOT NULL,
    ended_at        timestamptz,
    duration_ms     bigint,
    total_ms        bigint,
    entities        jsonb,
    decision        text,
    after           text,
    data            jsonb,
    correlation_id  text        NOT NULL,
    occurred_at     timestamptz NOT NULL,
    event_id        uuid        NOT NULL,
    state           jsonb       NOT NULL,
    PRIMARY KEY (account_id, command_id)
);

CREATE INDEX commands_v1_account ON kommo_projections.commands_v1 (account_id, occurred_at, command_id);
CREATE INDEX commands_v1_time ON kommo_projections.commands_v1 (occurred_at, account_id, command_id);
CREATE INDEX commands_v1_status ON kommo_projections.commands_v1 (account_id, status, occurred_at, command_id);
CREATE INDEX commands_v1_entity ON kommo_projections.commands_v1 (account_id, entity_type, entity_id, occurred_at);

CREATE VIEW kommo.commands AS
SELECT account_id, command_id, action, entity_type, entity_id, status AS state, attempts, error_class, error,
       next_attempt_at, admitted_at, ended_at, duration_ms, total_ms, entities, decision, after, data, correlation_id,
       occurred_at, event_id
FROM kommo_projections.commands_v1;

CREATE TABLE kommo_projections.command_effects_v1 (
    account_id  bigint      NOT NULL,
    entity_type text        NOT NULL,
    entity_id   text        NOT NULL,
    at          timestamptz NOT NULL,   -- Kommo's time of it, whole seconds; 1970: whenever it was added
    events      text        NOT NULL,   -- what the names of the events that Kommo tells it by begin with
    command_id  text        NOT NULL,
    PRIMARY KEY (account_id, entity_type, entity_id, at, command_id)
);
