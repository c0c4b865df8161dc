-- What the projections share: their positions in the log, and the schemas.
-- `kommo` holds the views that other programs read; `kommo_projections` the versioned tables behind them.

CREATE SCHEMA IF NOT EXISTS kommo;
CREATE SCHEMA IF NOT EXISTS kommo_projections;

-- How far a version of a projection has read a partition of kommo.events. The rows of a batch and its new position are
-- written in one transaction, and the position is compared before it is set. cluster_id, topic and last_event_id
-- are the log's identity: they tell a recreated or copied topic from the one that was read.
CREATE TABLE kommo_projections.positions (
    projection    text        NOT NULL,
    version       integer     NOT NULL,
    partition     integer     NOT NULL,
    topic         text        NOT NULL,
    cluster_id    text        NOT NULL,
    position      bigint      NOT NULL CHECK (position >= 0),
    last_event_id text,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, version, partition)
);
