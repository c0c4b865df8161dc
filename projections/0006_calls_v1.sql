-- calls, version 1: one row per call, however many notes tell of it.
-- `state` holds what the row is worked out from (projections/calls.py).

CREATE TABLE kommo_projections.calls_v1 (
    account_id          bigint      NOT NULL,
    call_id             text        NOT NULL,
    entity_type         text        NOT NULL,
    entity_id           text        NOT NULL,
    direction           text,
    phone               text,
    duration_seconds    bigint,
    outcome             text,
    result              text,
    source              text,
    recording_url       text,
    responsible_user_id bigint,
    occurred_at         timestamptz NOT NULL,
    event_id            uuid        NOT NULL,
    url                 text,
    state               jsonb       NOT NULL,
    PRIMARY KEY (account_id, call_id)
);

-- The lists' order, of one account and of all; then each filter that leaves few of an account's calls.
CREATE INDEX calls_v1_account ON kommo_projections.calls_v1 (account_id, occurred_at, call_id);
CREATE INDEX calls_v1_time ON kommo_projections.calls_v1 (occurred_at, account_id, call_id);
CREATE INDEX calls_v1_entity ON kommo_projections.calls_v1 (account_id, entity_type, entity_id, occurred_at);
CREATE INDEX calls_v1_recorded ON kommo_projections.calls_v1 (account_id, occurred_at, call_id)
WHERE recording_url IS NOT NULL;

CREATE VIEW kommo.calls AS
SELECT account_id, call_id, entity_type, entity_id, direction, phone, duration_seconds, outcome, result, source,
       recording_url, responsible_user_id, occurred_at, event_id, url
FROM kommo_projections.calls_v1;
