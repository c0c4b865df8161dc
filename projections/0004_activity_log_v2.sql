-- activity_log, version 2: a line keeps what its body says of the entity, and what changed is worked out on reading,
-- from the line's neighbours in Kommo's order. So a late event changes what its own line and the next one say, and
-- nothing is ever rewritten. Version 1 is dropped: this one is built from the log.

CREATE TABLE kommo_projections.activity_log_v2 (
    account_id     bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_id       uuid        NOT NULL,
    entity_type    text        NOT NULL,
    entity_id      text        NOT NULL,
    event_type     text        NOT NULL,
    actor_id       bigint,                -- Kommo's user; 0 is a robot
    summary        text        NOT NULL,
    changes        jsonb,                 -- {field: {from, to}}, where the body itself says it
    outcome        text,
    duration_ms    bigint,
    correlation_id text        NOT NULL,
    log_partition  integer     NOT NULL,
    log_offset     bigint      NOT NULL,
    sort_key       text COLLATE "C" NOT NULL,  -- orders what shares occurred_at: add first, then the event's sequence
    time_source    text        NOT NULL,  -- kommo, or received where the body carries no time
    revision       integer     NOT NULL,
    floats         boolean     NOT NULL,  -- another reading of this event may have to replace it at another time
    snapshot       jsonb,                 -- projections/snapshot.py
    PRIMARY KEY (account_id, occurred_at, event_id)
) PARTITION BY RANGE (occurred_at);

CREATE TABLE kommo_projections.activity_log_v2_default PARTITION OF kommo_projections.activity_log_v2 DEFAULT;

CREATE INDEX activity_log_v2_entity
    ON kommo_projections.activity_log_v2 (account_id, entity_type, entity_id, occurred_at);
CREATE INDEX activity_log_v2_event ON kommo_projections.activity_log_v2 (event_id);
CREATE INDEX activity_log_v2_floating ON kommo_projections.activity_log_v2 (event_id) WHERE floats;  -- next to none
CREATE INDEX activity_log_v2_time ON kommo_projections.activity_log_v2 (occurred_at);

-- What differs between two snapshots of an entity: {field: {from, to}}. A field is compared where both have it; custom
-- fields where both are whole, and one that is no longer there was cleared.
CREATE FUNCTION kommo_projections.differences(before jsonb, after jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(jsonb_object_agg(name, jsonb_build_object('from', old, 'to', new)), '{}')
    FROM (
        SELECT key AS name, b.value AS old, a.value AS new
        FROM jsonb_each(before -> 'fields') AS b JOIN jsonb_each(after -> 'fields') AS a USING (key)
        WHERE b.value <> a.value
        UNION ALL
        SELECT 'custom_fields.' || coalesce(a.value ->> 0, b.value ->> 0)
               || CASE WHEN count(*) OVER (PARTITION BY coalesce(a.value ->> 0, b.value ->> 0)) > 1
                       THEN ' (' || key || ')' ELSE '' END,  -- two fields of one name
               b.value -> 1, a.value -> 1
        FROM jsonb_each(before -> 'custom') AS b FULL JOIN jsonb_each(after -> 'custom') AS a USING (key)
        WHERE before ? 'custom' AND after ? 'custom' AND (b.value -> 1) IS DISTINCT FROM (a.value -> 1)
    ) AS differing
$$;

-- What changed with a line: what its body says, and what its snapshot and the one before it say. What another event of
-- the entity at the same time tells of itself (of the same body, or of the other hook of one move) is told there.
CREATE FUNCTION kommo_projections.activity_changes_v2(line kommo_projections.activity_log_v2) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE COST 10000 AS $$
    SELECT nullif(
        (kommo_projections.differences(before.snapshot, line.snapshot)
            - ARRAY(
                SELECT jsonb_object_keys(other.changes)
                FROM kommo_projections.activity_log_v2 AS other
                WHERE other.account_id = line.account_id AND other.entity_type = line.entity_type
                  AND other.entity_id = line.entity_id AND other.occurred_at = line.occurred_at
                  AND other.event_id <> line.event_id AND other.changes IS NOT NULL))
        || coalesce(line.changes, '{}'), '{}')
    FROM (
        SELECT (
            SELECT p.snapshot
            FROM kommo_projections.activity_log_v2 AS p
            WHERE p.account_id = line.account_id AND p.entity_type = line.entity_type AND p.entity_id = line.entity_id
              AND p.snapshot IS NOT NULL AND p.occurred_at <= line.occurred_at
              AND (p.occurred_at, p.sort_key, p.event_id) < (line.occurred_at, line.sort_key, line.event_id)
            ORDER BY p.occurred_at DESC, p.sort_key DESC, p.event_id DESC
            LIMIT 1
        ) AS snapshot
    ) AS before
$$;

-- A value for a person: short, on one line, without the marks that turn the direction of the words around it.
CREATE FUNCTION kommo_projections.tell_value(value jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN length(told) > 60 THEN left(told, 59) || '…' ELSE told END
    FROM (
        SELECT regexp_replace(regexp_replace(
            CASE jsonb_typeof(value)
                WHEN 'array' THEN (SELECT string_agg(item #>> '{}', ', ') FROM jsonb_array_elements(value) AS item)
                ELSE value #>> '{}'
            END, '[\x01-\x1f\u202a-\u202e\u2066-\u2069]+', ' ', 'g'),
            '^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\dZ$', '\1 \2 UTC') AS told
    ) AS words
$$;

-- One change for a person: "price 100 → 250", "tag hot added", "reopened".
CREATE FUNCTION kommo_projections.tell_change(field text, change jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN field IN ('tags', 'linked_leads') THEN (
            SELECT string_agg(
                CASE field WHEN 'tags' THEN 'tag ' ELSE 'lead ' END || kommo_projections.tell_value(to_jsonb(name))
                || CASE WHEN lost THEN ' removed' ELSE ' added' END, ', ' ORDER BY lost, name)
            FROM (
                SELECT name, true AS lost FROM jsonb_array_elements_text(change -> 'from') AS name
                WHERE NOT (change -> 'to') ? name
                UNION ALL
                SELECT name, false FROM jsonb_array_elements_text(change -> 'to') AS name
                WHERE NOT (change -> 'from') ? name
            ) AS moved
        )
        WHEN field = 'status' AND change -> 'to' = '0' THEN 'reopened'
        WHEN field = 'status' AND change -> 'to' = '1' THEN 'closed'
        WHEN field = 'is_in_work' AND change -> 'to' = '0' THEN 'closed'
        WHEN field = 'is_in_work' AND change -> 'to' = '1' THEN 'taken up again'
        WHEN field = 'is_read' AND change -> 'to' = '1' THEN 'read'
        WHEN field = 'is_read' AND change -> 'to' = '0' THEN 'not read'
        WHEN coalesce(change -> 'to', 'null') IN ('null', '""') THEN label || ' cleared'
        WHEN coalesce(change -> 'from', 'null') IN ('null', '""')
            THEN label || ' set to ' || kommo_projections.tell_value(change -> 'to')
        ELSE label || ' ' || kommo_projections.tell_value(change -> 'from') || ' → '
            || kommo_projections.tell_value(change -> 'to')
    END
    FROM (
        SELECT CASE
            WHEN field LIKE 'custom\_fields.%' THEN kommo_projections.tell_value(to_jsonb(substr(field, 15)))
            WHEN field LIKE '%\_id' THEN replace(left(field, -3), '_', ' ')
            ELSE replace(field, '_', ' ')
        END AS label
    ) AS named
$$;

-- A line's summary, and after it the changes that the summary does not tell of itself.
CREATE FUNCTION kommo_projections.tell_changes(summary text, changes jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT summary || coalesce(': ' || string_agg(told, ', ' ORDER BY key), '')
        || CASE WHEN number > 8 THEN ', and ' || number - 8 || ' more' ELSE '' END
    FROM (SELECT count(*) AS number FROM jsonb_object_keys(changes)) AS counted
    LEFT JOIN LATERAL (
        SELECT key, kommo_projections.tell_change(key, value) AS told
        FROM (SELECT key, value FROM jsonb_each(changes) ORDER BY key LIMIT 8) AS first
    ) AS changed ON true
    GROUP BY number
$$;

-- A delete carries nothing that tells a repeat from a second delete: deletes with nothing of the entity between them
-- by Kommo's time show as one, the first.
CREATE OR REPLACE VIEW kommo.activity_log AS
SELECT account_id, occurred_at, event_id, entity_type, entity_id, event_type, actor_id,
       CASE WHEN snapshot IS NULL THEN summary ELSE kommo_projections.tell_changes(
           summary,
           kommo_projections.activity_changes_v2(a) - ARRAY(SELECT jsonb_object_keys(coalesce(changes, '{}')))
               - CASE event_type WHEN 'kommo.task.completed' THEN ARRAY['status', 'result']
                                 WHEN 'kommo.task.result_added' THEN ARRAY['result'] ELSE ARRAY[]::text[] END
       ) END AS summary,
       CASE WHEN snapshot IS NULL THEN changes ELSE kommo_projections.activity_changes_v2(a) END AS changes,
       outcome, duration_ms, correlation_id, log_partition, log_offset, sort_key
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

DROP TABLE kommo_projections.activity_log_v1;
DELETE FROM kommo_projections.positions WHERE projection = 'activity_log' AND version = 1;
