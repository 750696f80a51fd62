-- What each grant was charged in its tenant's ledger: the exact cost, also of calls that were cut off and of posts that
-- were looked at again. One row per grant and ledger; a lost ledger's successor charges a grant once more.
CREATE TABLE token_charges (
    tenant_id   text NOT NULL,
    ledger      text NOT NULL,
    grant_id    text NOT NULL,
    charged_at  timestamptz NOT NULL,
    tokens      bigint NOT NULL,
    cut_off     boolean NOT NULL,
    post_id     text,
    file_sha256 text,
    prompt      text,
    CONSTRAINT token_charges_pkey PRIMARY KEY (tenant_id, ledger, grant_id),
    CONSTRAINT token_charges_tokens CHECK (tokens >= 0)
);
CREATE INDEX token_charges_tenant_time ON token_charges (tenant_id, charged_at);
CREATE INDEX token_charges_time ON token_charges (charged_at);
