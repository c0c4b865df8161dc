-- dead_letters, version 1: one row per record that was set aside (projections/dead_letters.py).

CREATE TABLE kommo_projections.dead_letters_v1 (
    letter_id          text        PRIMARY KEY,
    account_id         bigint,                   -- null where the key names none: no tenant sees it
    occurred_at        timestamptz NOT NULL,     -- when it was set aside last
    first_at           timestamptz NOT NULL,     -- when what failed was tried first
    error_class        text        NOT NULL,
    reason             text        NOT NULL,
    reader             text        NOT NULL,     -- who set it aside
    attempts           bigint      NOT NULL,
    topic              text        NOT NULL,     -- where the original lies
    original_partition integer,
    original_offset    bigint,
    item               text        NOT NULL,     -- which part of the original, empty for the whole
    correlation_id     text        NOT NULL,
    key                bytea,
    value              bytea,                    -- null where it was too large
    headers            jsonb       NOT NULL,     -- the original's own
    log_partition      integer     NOT NULL,     -- where the letter itself lies in kommo.deadletters
    log_offset         bigint      NOT NULL
);

CREATE INDEX dead_letters_v1_account ON kommo_projections.dead_letters_v1 (account_id, occurred_at, letter_id);
CREATE INDEX dead_letters_v1_time ON kommo_projections.dead_letters_v1 (occurred_at, letter_id);
CREATE INDEX dead_letters_v1_class ON kommo_projections.dead_letters_v1 (account_id, error_class, occurred_at);

CREATE VIEW kommo.dead_letters AS
SELECT letter_id, account_id, occurred_at, first_at, error_class, reason, reader, attempts, topic, original_partition,
       original_offset, item, correlation_id, key, value, headers, log_partition, log_offset
FROM kommo_projections.dead_letters_v1;
