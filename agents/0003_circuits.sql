-- Which circuits of which accounts are not closed now, as the worker that holds the account sees it: for people to read.
CREATE TABLE kommo_agents.circuits (
    account_id bigint NOT NULL,
    kind       text COLLATE "C" NOT NULL,                     -- of endpoint: leads, contacts, notes, ...
    until      timestamptz NOT NULL,                          -- when a probe may go
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    holder     uuid NOT NULL,
    PRIMARY KEY (account_id, kind)
);

CREATE VIEW kommo.circuits AS
SELECT c.account_id, c.kind, c.since, c.until
FROM kommo_agents.circuits AS c JOIN kommo_agents.leases AS l USING (account_id)
WHERE l.holder = c.holder AND l.until > now();
