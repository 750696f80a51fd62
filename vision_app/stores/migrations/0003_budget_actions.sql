-- What operators did to a tenant's budget: who, when, what. A budget whose ledger was lost is rebuilt from it.
CREATE TABLE budget_actions (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text NOT NULL,
    action    text NOT NULL,
    value     bigint,
    operator  text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT budget_actions_pkey PRIMARY KEY (id),
    CONSTRAINT budget_actions_action CHECK (action IN ('reset', 'set_limit', 'pause', 'resume')),
    CONSTRAINT budget_actions_value CHECK (value >= 0)
);
CREATE INDEX budget_actions_tenant ON budget_actions (tenant_id, action, id DESC);
