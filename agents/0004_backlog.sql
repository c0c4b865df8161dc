-- A long backlog of one account costs a claim no more than a short one: what is not due, and what waits behind an
-- earlier command of its entity, is not looked through.
ALTER TABLE kommo_agents.commands ADD COLUMN behind boolean NOT NULL DEFAULT false; -- an earlier one of its entity

CREATE INDEX commands_due ON kommo_agents.commands (account_id, next_attempt_at, number)
    WHERE state = 'waiting' AND NOT behind;
CREATE INDEX commands_behind ON kommo_agents.commands (account_id, subject, number)
    WHERE state = 'waiting' AND behind;
CREATE INDEX commands_behind_expiring ON kommo_agents.commands (account_id, expires_at)
    WHERE state = 'waiting' AND behind;
CREATE INDEX commands_claimed ON kommo_agents.commands (account_id) WHERE state = 'claimed';

-- Each topic's records are published by themselves: one that cannot be written to holds up no other.
CREATE INDEX outbox_topic ON kommo_agents.outbox (topic, number);

-- What a person has repeated is tried as often as what is new; the attempts before still count in its events' ids.
ALTER TABLE kommo_agents.commands ADD COLUMN attempts_before integer NOT NULL DEFAULT 0;
