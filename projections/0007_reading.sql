-- Reading the tables that are there: faster, and in words. No row changes, so stored lines tell it too.

-- activity_log: PostgreSQL 18 plans the queries of these functions anew for each line, and for each month in each of
-- them, which takes ten times as long as the look-ups themselves. One plan for all values is as good: it leaves out the
-- months when it starts.
ALTER FUNCTION kommo_projections.activity_changes_v2(kommo_projections.activity_log_v2)
    SET plan_cache_mode = force_generic_plan;

-- Whether a conversation's line says that it is closed, and no earlier one says whether it is: then nothing differs, and
-- yet a person should read it.
CREATE FUNCTION kommo_projections.activity_found_closed_v2(line kommo_projections.activity_log_v2) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE COST 10000 SET plan_cache_mode = force_generic_plan AS $$
    SELECT line.snapshot -> 'fields' -> 'is_in_work' = '0' AND NOT EXISTS (
        SELECT FROM kommo_projections.activity_log_v2 AS p
        WHERE p.account_id = line.account_id AND p.entity_type = line.entity_type AND p.entity_id = line.entity_id
          AND p.snapshot -> 'fields' ? 'is_in_work' AND p.occurred_at <= line.occurred_at
          AND (p.occurred_at, p.sort_key, p.event_id) < (line.occurred_at, line.sort_key, line.event_id)
    )
$$;

-- The move that a hook of the digital pipeline says, {field: {from, to}}; null where it says none. Another gateway may
-- have written anything there: what is no move is left out.
CREATE FUNCTION kommo_projections.moved(changes jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_object_agg(key, value)
    FROM jsonb_each(changes)
    WHERE key IN ('pipeline_id', 'status_id')
      AND jsonb_typeof(value -> 'from') = 'number' AND jsonb_typeof(value -> 'to') = 'number'
$$;

-- calls: each direction, where an account has few of one; and what was not recorded, where nearly all is.
CREATE INDEX calls_v1_direction ON kommo_projections.calls_v1 (account_id, direction, occurred_at, call_id);
CREATE INDEX calls_v1_unrecorded ON kommo_projections.calls_v1 (account_id, occurred_at, call_id)
WHERE recording_url IS NULL;
