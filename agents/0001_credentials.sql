-- Who may speak for an account at Kommo. `kommo_agents` holds what the agents need; no other program reads it.

CREATE SCHEMA IF NOT EXISTS kommo_agents;

-- One row for each connected account. Tokens are encrypted with keys that PostgreSQL does not have. `generation`
-- grows with every new pair: who refreshes compares it, and who reads sees that a pair is new. A refresh is claimed in
-- the row (refresh_claim, until refresh_claimed_until), so that no connection is held while Kommo is asked.
CREATE TABLE kommo_agents.credentials (
    account_id            bigint      PRIMARY KEY CHECK (account_id > 0),
    base_url              text        NOT NULL,
    client_uuid           text,               -- the integration; NULL: a long-lived token
    redirect_uri          text,               -- must be said again at every refresh
    access_token          bytea       NOT NULL,
    refresh_token         bytea,
    expires_at            timestamptz,        -- of the access token; NULL: not known
    user_id               bigint,             -- on whose behalf, if the token says it
    state                 text        NOT NULL DEFAULT 'connected' CHECK (state IN ('connected', 'needs_person')),
    why                   text,               -- what a person must know
    connected_at          timestamptz NOT NULL DEFAULT now(),
    refreshed_at          timestamptz,
    refused_at            timestamptz,        -- when Kommo last refused the tokens
    generation            bigint      NOT NULL DEFAULT 1,
    refresh_claim         uuid,
    refresh_claimed_until timestamptz,
    CHECK ((client_uuid IS NULL) = (refresh_token IS NULL)),
    CHECK ((client_uuid IS NULL) = (redirect_uri IS NULL)),
    CHECK ((state = 'needs_person') = (why IS NOT NULL))
);
