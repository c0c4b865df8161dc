-- activity_log, version 1: every event once, partitioned by the month in which it happened.
-- Months are attached as they come (projections/months.py); what is far in the past or not yet attached lies in the
-- default partition.

CREATE TABLE kommo_projections.activity_log_v1 (
    account_id     bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_id       uuid        NOT NULL,
    entity_type    text        NOT NULL,
    entity_id      text        NOT NULL,
    event_type     text        NOT NULL,
    actor_id       bigint,                -- Kommo's user; 0 is a robot
    summary        text        NOT NULL,
    changes        jsonb,                 -- {field: {from, to}}, where the body says it
    outcome        text,
    duration_ms    bigint,
    correlation_id text        NOT NULL,
    log_partition  integer     NOT NULL,
    log_offset     bigint      NOT NULL,
    sort_key       text COLLATE "C" NOT NULL,  -- orders what shares occurred_at: add first, then the event's sequence
    time_source    text        NOT NULL,  -- kommo, or received where the body carries no time
    revision       integer     NOT NULL,
    PRIMARY KEY (account_id, occurred_at, event_id)
) PARTITION BY RANGE (occurred_at);

CREATE TABLE kommo_projections.activity_log_v1_default PARTITION OF kommo_projections.activity_log_v1 DEFAULT;

CREATE INDEX activity_log_v1_entity
    ON kommo_projections.activity_log_v1 (account_id, entity_type, entity_id, occurred_at);
CREATE INDEX activity_log_v1_event ON kommo_projections.activity_log_v1 (event_id);
-- Readings that another reading of the same event may have to replace at another time: next to none.
CREATE INDEX activity_log_v1_floating ON kommo_projections.activity_log_v1 (event_id)
    WHERE revision > 1 OR (time_source = 'received' AND event_type NOT LIKE 'kommo.%.deleted'
                           AND event_type NOT LIKE 'kommo.call.%' AND event_type <> 'kommo.unrecognized');
CREATE INDEX activity_log_v1_time ON kommo_projections.activity_log_v1 (occurred_at);

-- A delete carries nothing that tells a repeat from a second delete: deletes with nothing of the entity between them
-- by Kommo's time show as one, the first.
CREATE VIEW kommo.activity_log AS
SELECT account_id, occurred_at, event_id, entity_type, entity_id, event_type, actor_id, summary, changes, outcome,
       duration_ms, correlation_id, log_partition, log_offset, sort_key
FROM kommo_projections.activity_log_v1 AS a
WHERE event_type NOT LIKE 'kommo.%.deleted'
   OR NOT coalesce((
        SELECT p.event_type LIKE 'kommo.%.deleted'
        FROM kommo_projections.activity_log_v1 AS p
        WHERE p.account_id = a.account_id AND p.entity_type = a.entity_type AND p.entity_id = a.entity_id
          AND p.occurred_at <= a.occurred_at
          AND (p.occurred_at, p.sort_key, p.event_id) < (a.occurred_at, a.sort_key, a.event_id)
          AND (p.time_source = 'kommo' OR p.event_type LIKE 'kommo.%.deleted')
        ORDER BY p.occurred_at DESC, p.sort_key DESC, p.event_id DESC
        LIMIT 1
      ), false);
