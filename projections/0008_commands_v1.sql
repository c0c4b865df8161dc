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

-- The list's order, of one account and of all; then each filter that leaves few of an account's commands.
CREATE INDEX commands_v1_account ON kommo_projections.commands_v1 (account_id, occurred_at, command_id);
CREATE INDEX commands_v1_time ON kommo_projections.commands_v1 (occurred_at, account_id, command_id);
CREATE INDEX commands_v1_status ON kommo_projections.commands_v1 (account_id, status, occurred_at, command_id);
CREATE INDEX commands_v1_action ON kommo_projections.commands_v1 (account_id, action, occurred_at, command_id);
CREATE INDEX commands_v1_entity ON kommo_projections.commands_v1 (account_id, entity_type, entity_id, occurred_at);
CREATE INDEX commands_v1_id ON kommo_projections.commands_v1 (command_id);

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
    events      text        NOT NULL,   -- how the types of the events begin that Kommo tells it by
    command_id  text        NOT NULL,
    asked_at    timestamptz NOT NULL,   -- when the command was taken on
    PRIMARY KEY (account_id, entity_type, entity_id, at, events, command_id)
);
CREATE INDEX command_effects_v1_command ON kommo_projections.command_effects_v1 (account_id, command_id);

-- What belongs together: a delivery's lines, a command's story.
CREATE INDEX activity_log_v2_correlation ON kommo_projections.activity_log_v2 (account_id, correlation_id);

-- activity_log: what 0007 tells, and a new column at the end. `caused_by`: the command whose effect a webhook told of.
-- One second may have effects of several commands on one entity, which nothing in the webhooks tells apart: then it is
-- null. An entity is added once; it may have been there before a command that only names it, which is then no cause.
-- The changes are worked out for `changes` and again for `summary`. A LATERAL subquery would do it once, but before a
-- sort, for every line that is sorted and not only for those of the page (docs/decisions/0014-changes-on-reading.md).
CREATE OR REPLACE VIEW kommo.activity_log AS
SELECT account_id, occurred_at, event_id, entity_type, entity_id, event_type, actor_id,
       CASE WHEN event_type = 'kommo.digital_pipeline.triggered'
            THEN kommo_projections.tell_changes(summary, kommo_projections.moved(changes))
            WHEN snapshot IS NULL THEN summary
            ELSE kommo_projections.tell_changes(
                summary,
                coalesce(kommo_projections.activity_changes_v2(a), '{}')
                    - ARRAY(SELECT jsonb_object_keys(coalesce(changes, '{}')))
                    - CASE event_type WHEN 'kommo.task.completed' THEN ARRAY['status', 'result']
                                      WHEN 'kommo.task.result_added' THEN ARRAY['result'] ELSE ARRAY[]::text[] END
                    || CASE WHEN event_type = 'kommo.talk.updated' AND kommo_projections.activity_found_closed_v2(a)
                            THEN jsonb '{"is_in_work": {"to": 0}}' ELSE jsonb '{}' END
            ) END AS summary,
       CASE WHEN snapshot IS NULL THEN changes ELSE kommo_projections.activity_changes_v2(a) END AS changes,
       outcome, duration_ms, correlation_id, log_partition, log_offset, sort_key,
       CASE WHEN entity_type <> 'command' AND event_type = 'kommo.' || entity_type || '.added' THEN (
                SELECT e.command_id
                FROM kommo_projections.command_effects_v1 AS e
                WHERE e.account_id = a.account_id AND e.entity_type = a.entity_type AND e.entity_id = a.entity_id
                  AND e.at = timestamptz '1970-01-01 00:00:00Z' AND e.events = a.event_type
                  AND e.asked_at <= a.occurred_at + interval '10 seconds'  -- clocks differ, and Kommo's has no fractions
                ORDER BY e.asked_at, e.command_id
                LIMIT 1)
            WHEN entity_type <> 'command' AND time_source = 'kommo' THEN (
                SELECT CASE WHEN count(*) = 1 THEN min(e.command_id) END
                FROM kommo_projections.command_effects_v1 AS e
                WHERE e.account_id = a.account_id AND e.entity_type = a.entity_type AND e.entity_id = a.entity_id
                  AND e.at = date_trunc('second', a.occurred_at) AND starts_with(a.event_type, e.events))
       END AS caused_by
FROM kommo_projections.activity_log_v2 AS a
WHERE event_type NOT LIKE 'kommo.%.deleted'
   OR NOT coalesce((
        SELECT p.event_type LIKE 'kommo.%.deleted'
        FROM kommo_projections.activity_log_v2 AS p
        WHERE p.account_id = a.account_id AND p.entity_type = a.entity_type AND p.entity_id = a.entity_id
          AND p.occurred_at <= a.occurred_at
          AND (p.occurred_at, p.sort_key, p.event_id) < (a.occurred_at, a.sort_key, a.event_id)
          AND (p.time_source = 'kommo' OR p.event_type LIKE 'kommo.%.deleted')
        ORDER BY p.occurred_at DESC, p.sort_key DESC, p.event_id DESC
        LIMIT 1
      ), false);
