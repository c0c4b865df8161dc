-- Who may read: tokens of programs (api), sessions of browsers (session), and one-time codes that become sessions
-- (code). Only a hash of the secret is kept; it is 256 random bits, so a plain SHA-256 cannot be guessed backwards.

CREATE TABLE kommo.access_tokens (
    id            text        PRIMARY KEY CHECK (id ~ '^[0-9a-f]{16}$'),
    kind          text        NOT NULL CHECK (kind IN ('api', 'session', 'code')),
    name          text        NOT NULL,
    accounts      bigint[],                -- NULL: all accounts
    secret_sha256 bytea       NOT NULL CHECK (octet_length(secret_sha256) = 32),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,             -- NULL: never
    revoked_at    timestamptz
);

CREATE INDEX access_tokens_name ON kommo.access_tokens (name);
