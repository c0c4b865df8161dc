-- A long backlog of one account costs a claim no more than a short one: what is not due, what waits behind an earlier
-- command of its entity, and what waits for another command, is not looked through.
ALTER TABLE kommo_agents.commands
    ADD COLUMN behind boolean NOT NULL DEFAULT false,         -- another was before it; its end lets this one go
    ADD COLUMN attempts_before integer NOT NULL DEFAULT 0,    -- when a person had it repeated: it has all of them again
    ADD COLUMN begun_at timestamptz,                          -- since when it has its age, where a person had it repeated
    ADD COLUMN topic text,                                    -- where it lay, and with which headers: [[name, text], ...]
    ADD COLUMN headers jsonb NOT NULL DEFAULT '[]';

CREATE INDEX commands_due ON kommo_agents.commands (account_id, next_attempt_at, number)
    WHERE state = 'waiting' AND NOT behind;
CREATE INDEX commands_behind ON kommo_agents.commands (account_id, subject, number)
    WHERE state = 'waiting' AND behind;
CREATE INDEX commands_behind_expiring ON kommo_agents.commands (account_id, expires_at)
    WHERE state = 'waiting' AND behind;
CREATE INDEX commands_claimed ON kommo_agents.commands (account_id, subject) WHERE state = 'claimed';

-- Each topic's records are published by themselves: one that cannot be written to holds up no other.
CREATE INDEX outbox_topic ON kommo_agents.outbox (topic, number);
