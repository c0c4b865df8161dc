-- Commands: each known for ever by its id, and what became of it.
CREATE SCHEMA IF NOT EXISTS kommo_agents;

CREATE TABLE kommo_agents.commands (
    number          bigint GENERATED ALWAYS AS IDENTITY,      -- the order of admission
    id              uuid PRIMARY KEY,
    account_id      bigint NOT NULL,
    subject         text COLLATE "C" NOT NULL,                -- the entity whose commands keep their order
    action          text COLLATE "C" NOT NULL,
    command         bytea NOT NULL,                           -- as it lay in kommo.commands
    partition       integer NOT NULL,
    "offset"        bigint NOT NULL,
    after           uuid,
    correlation_id  text NOT NULL,
    state           text COLLATE "C" NOT NULL DEFAULT 'waiting'
                    CHECK (state IN ('waiting', 'claimed', 'unknown', 'succeeded', 'failed')),
    attempts        integer NOT NULL DEFAULT 0,
    progress        jsonb NOT NULL DEFAULT '{}',              -- what of several steps is done
    doubt           timestamptz,                              -- since when its effect may be there, unseen
    admitted_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    claimed_at      timestamptz,
    claimed_epoch   bigint,                                   -- of the lease under which it was claimed
    result          jsonb,
    error_class     text COLLATE "C",
    error           text,
    finished_at     timestamptz
);
-- What is not finished, in its order; and what an entity's later commands wait behind.
CREATE INDEX commands_open ON kommo_agents.commands (account_id, number)
    WHERE state IN ('waiting', 'claimed', 'unknown');
CREATE INDEX commands_open_subject ON kommo_agents.commands (account_id, subject, number)
    WHERE state IN ('waiting', 'claimed', 'unknown');
-- What others have made lately: a look must not take it for its own.
CREATE INDEX commands_succeeded ON kommo_agents.commands (account_id, finished_at) WHERE state = 'succeeded';
CREATE INDEX commands_after ON kommo_agents.commands (after) WHERE after IS NOT NULL;

-- One worker at a time works for an account. A row is made with an account's first command.
CREATE TABLE kommo_agents.leases (
    account_id bigint PRIMARY KEY,
    holder     uuid,
    epoch      bigint NOT NULL DEFAULT 0,                     -- one more with every taking
    until      timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE INDEX leases_holder ON kommo_agents.leases (holder);

CREATE TABLE kommo_agents.workers (
    holder  uuid PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

-- Records for Kafka, written with what they tell of, and deleted when Kafka has them.
CREATE TABLE kommo_agents.outbox (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic   text NOT NULL,
    key     bytea NOT NULL,
    value   bytea,
    headers jsonb NOT NULL DEFAULT '[]'
);
