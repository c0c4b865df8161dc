-- tasks, version 1: one row per task.
-- `state` holds what the row is worked out from (projections/tasks.py). `status` is the column the view calls state.

CREATE TABLE kommo_projections.tasks_v1 (
    account_id          bigint      NOT NULL,
    task_id             text        NOT NULL,
    status              text        NOT NULL,
    text                text,
    task_type           bigint,
    entity_type         text,
    entity_id           text,
    responsible_user_id bigint,
    deadline            timestamptz,
    result              text,
    created_at          timestamptz,
    completed_at        timestamptz,
    reopened_at         timestamptz,
    occurred_at         timestamptz NOT NULL,
    url                 text,
    event_id            uuid        NOT NULL,
    state               jsonb       NOT NULL,
    PRIMARY KEY (account_id, task_id)
);

-- The lists' order, of one account and of all; then each filter that leaves few of an account's tasks.
CREATE INDEX tasks_v1_account ON kommo_projections.tasks_v1 (account_id, occurred_at, task_id);
CREATE INDEX tasks_v1_time ON kommo_projections.tasks_v1 (occurred_at, account_id, task_id);
CREATE INDEX tasks_v1_status ON kommo_projections.tasks_v1 (account_id, status, occurred_at, task_id);
CREATE INDEX tasks_v1_entity ON kommo_projections.tasks_v1 (account_id, entity_type, entity_id, occurred_at);
CREATE INDEX tasks_v1_responsible ON kommo_projections.tasks_v1 (account_id, responsible_user_id, occurred_at);
CREATE INDEX tasks_v1_deadline ON kommo_projections.tasks_v1 (account_id, deadline);

CREATE VIEW kommo.tasks AS
SELECT account_id, task_id, status AS state, text, task_type, entity_type, entity_id, responsible_user_id, deadline,
       status = 'open' AND deadline IS NOT NULL AND deadline < now() AS overdue,
       result, created_at, completed_at, reopened_at, occurred_at, url, event_id
FROM kommo_projections.tasks_v1;
