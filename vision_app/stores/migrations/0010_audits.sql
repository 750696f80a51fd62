-- Accounts asked for over the API or the page, so that every worker shows the same one. An empty tenant: all tenants.
CREATE TABLE audits (
    tenant_id  text NOT NULL,
    id         bigint GENERATED ALWAYS AS IDENTITY,
    since      timestamptz,
    state      text NOT NULL DEFAULT 'running',
    operator   text NOT NULL,
    worker     text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    renewed_at timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    reason     text,
    summary    jsonb,
    CONSTRAINT audits_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT audits_state CHECK (state IN ('running', 'taken', 'failed', 'cut_off'))
);
-- one at a time: an account loads every store
CREATE UNIQUE INDEX audits_running ON audits (state) WHERE state = 'running';
