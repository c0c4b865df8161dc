-- recent_updates, version 1: one row per lead, contact, company and task.
-- `state` holds what the row is worked out from (projections/recent_updates.py): the newest events, the newest
-- snapshots and the deletes, each with its clock, so that any order of reading gives the same row.

CREATE TABLE kommo_projections.recent_updates_v1 (
    account_id          bigint      NOT NULL,
    entity_type         text        NOT NULL,
    entity_id           text        NOT NULL,
    title               text,
    event_type          text        NOT NULL,
    summary             text        NOT NULL,
    responsible_user_id bigint,
    occurred_at         timestamptz NOT NULL,
    url                 text,
    deleted             boolean     NOT NULL,
    event_id            uuid        NOT NULL,
    state               jsonb       NOT NULL,
    PRIMARY KEY (account_id, entity_type, entity_id)
);

CREATE INDEX recent_updates_v1_account ON kommo_projections.recent_updates_v1 (account_id, occurred_at);
CREATE INDEX recent_updates_v1_time ON kommo_projections.recent_updates_v1 (occurred_at);

CREATE VIEW kommo.recent_updates AS
SELECT account_id, entity_type, entity_id, title, event_type, summary, responsible_user_id, occurred_at, url, deleted,
       event_id
FROM kommo_projections.recent_updates_v1;
