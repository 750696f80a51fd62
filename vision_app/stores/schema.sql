-- The whole schema as it is after all migrations, for readers. Applied are the migrations; a test proves both equal.

CREATE TABLE schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- What was seen on a post's media. Other kinds of enrichment of the assistant may share the table.
CREATE TABLE post_enrichment (
    tenant_id              text NOT NULL,
    post_id                text NOT NULL,
    kind                   text NOT NULL DEFAULT 'vision',
    provider               text NOT NULL,
    params_hash            text,
    data                   jsonb NOT NULL DEFAULT '{}',
    status                 text NOT NULL,
    error                  text,
    metadata               jsonb,
    album_size             integer,
    vision_labels_agg      jsonb,
    ocr_present            boolean NOT NULL DEFAULT false,
    summary                text,
    vision_analyzed_at     timestamptz,
    vision_provider        text,
    vision_model           text,
    vision_is_meme         boolean DEFAULT false,
    vision_classification  jsonb,
    vision_description     text,
    vision_ocr_text        text,
    vision_context         jsonb,
    vision_file_id         text,
    vision_tokens_used     bigint DEFAULT 0,
    vision_cost_microunits bigint,
    vision_analysis_reason text,
    s3_vision_keys         jsonb NOT NULL DEFAULT '[]',
    s3_media_keys          jsonb NOT NULL DEFAULT '[]',
    s3_crawl_keys          jsonb NOT NULL DEFAULT '[]',
    vision_version         text,
    features_hash          text,
    trace_id               text,
    emission_time_ms       bigint,
    emission_offset        bigint,
    in_work_since          timestamptz,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    -- descriptions and texts of all pictures; `russian` stems words in ASCII as English; 0006 says why it is cut
    vision_search          tsvector GENERATED ALWAYS AS (
        to_tsvector('russian', regexp_replace(left((
            jsonb_path_query_array(data, '$.enrichments[*].analysis.description')
            || jsonb_path_query_array(data, '$.enrichments[*].analysis.ocr.text')
        )::text, 40000), '\\(u[0-9a-f]{4}|.)', ' ', 'g'))
    ) STORED,
    CONSTRAINT post_enrichment_pkey PRIMARY KEY (tenant_id, post_id, kind),
    CONSTRAINT post_enrichment_kind CHECK (kind IN ('vision', 'vision_ocr', 'crawl', 'tags', 'classify', 'general')),
    CONSTRAINT post_enrichment_status CHECK (status IN ('ok', 'partial', 'error', 'skipped', 'in_work')),
    CONSTRAINT post_enrichment_vision_provider CHECK (vision_provider IN ('gigachat', 'ocr_fallback', 'none')),
    CONSTRAINT post_enrichment_tokens CHECK (vision_tokens_used >= 0),
    CONSTRAINT post_enrichment_reason
        CHECK (vision_analysis_reason IN ('new', 'retry', 'cache_hit', 'fallback', 'skipped'))
);

-- the acceptance guide looks a post up by its id alone
CREATE INDEX post_enrichment_post ON post_enrichment (post_id);
CREATE INDEX post_enrichment_tenant_analyzed ON post_enrichment (tenant_id, vision_analyzed_at DESC)
    WHERE vision_analyzed_at IS NOT NULL;
CREATE INDEX post_enrichment_tenant_updated ON post_enrichment (tenant_id, updated_at);
CREATE INDEX post_enrichment_in_work ON post_enrichment (in_work_since) WHERE in_work_since IS NOT NULL;
CREATE INDEX post_enrichment_memes ON post_enrichment (tenant_id, vision_analyzed_at DESC) WHERE vision_is_meme;
CREATE INDEX post_enrichment_data ON post_enrichment USING gin (data jsonb_path_ops);
CREATE INDEX post_enrichment_classification ON post_enrichment USING gin (vision_classification);
CREATE INDEX post_enrichment_labels ON post_enrichment USING gin (vision_labels_agg)
    WHERE vision_labels_agg IS NOT NULL;
CREATE INDEX post_enrichment_media_keys ON post_enrichment USING gin (s3_media_keys);
-- looking a post up by its trace id
CREATE INDEX post_enrichment_trace ON post_enrichment (trace_id);
CREATE INDEX post_enrichment_search ON post_enrichment USING gin (vision_search);
-- lists of posts of every status, newest first
CREATE INDEX post_enrichment_updated ON post_enrichment (updated_at, tenant_id, post_id);
CREATE INDEX post_enrichment_deferred ON post_enrichment (updated_at, tenant_id, post_id)
    WHERE kind = 'vision' AND data @> '{"media": [{"details": {"deferred": true}}]}';
CREATE INDEX post_enrichment_not_whole ON post_enrichment (updated_at, tenant_id, post_id) WHERE status <> 'ok';
CREATE INDEX post_enrichment_channel ON post_enrichment ((metadata ->> 'channel_id'), updated_at);

-- Which media exist, which posts list them, and how much room each tenant takes.
CREATE TABLE media_objects (
    tenant_id     text NOT NULL,
    file_sha256   text NOT NULL,
    mime          text NOT NULL,
    size_bytes    bigint NOT NULL,
    s3_key        text NOT NULL,
    s3_bucket     text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    refs_count    integer NOT NULL DEFAULT 0,
    CONSTRAINT media_objects_pkey PRIMARY KEY (tenant_id, file_sha256),
    CONSTRAINT media_objects_size CHECK (size_bytes >= 0),
    CONSTRAINT media_objects_refs CHECK (refs_count >= 0)
);
CREATE INDEX media_objects_sha256 ON media_objects (file_sha256);
-- candidates for deletion: nobody's, longest unseen first
CREATE INDEX media_objects_unreferenced ON media_objects (last_seen_at) WHERE refs_count = 0;
-- a hash: keys come from events and may be longer than a b-tree takes
CREATE INDEX media_objects_key ON media_objects USING hash (s3_key);

CREATE TABLE post_media_map (
    tenant_id   text NOT NULL,
    post_id     text NOT NULL,
    file_sha256 text NOT NULL,
    position    integer NOT NULL,
    role        text NOT NULL,
    uploaded_at timestamptz NOT NULL,
    CONSTRAINT post_media_map_pkey PRIMARY KEY (tenant_id, post_id, file_sha256),
    CONSTRAINT post_media_map_media FOREIGN KEY (tenant_id, file_sha256)
        REFERENCES media_objects (tenant_id, file_sha256) ON DELETE CASCADE,
    CONSTRAINT post_media_map_role CHECK (role IN ('primary', 'attachment', 'thumbnail'))
);
CREATE INDEX post_media_map_media ON post_media_map (tenant_id, file_sha256);

CREATE TABLE tenant_storage_usage (
    tenant_id     text NOT NULL,
    content_type  text NOT NULL,
    total_bytes   bigint NOT NULL,
    total_gb      double precision GENERATED ALWAYS AS (total_bytes / 1073741824.0::double precision) STORED,
    objects_count bigint NOT NULL,
    last_updated  timestamptz NOT NULL DEFAULT now(),
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- changes by writers after the listing in progress began, which that listing may or may not have seen
    since_bytes   bigint NOT NULL DEFAULT 0,
    since_objects bigint NOT NULL DEFAULT 0,
    CONSTRAINT tenant_storage_usage_pkey PRIMARY KEY (tenant_id, content_type),
    CONSTRAINT tenant_storage_usage_type CHECK (content_type IN ('media', 'vision', 'crawl', 'album', 'other')),
    CONSTRAINT tenant_storage_usage_bytes CHECK (total_bytes >= 0),
    CONSTRAINT tenant_storage_usage_objects CHECK (objects_count >= 0)
);

-- One row: which listing the numbers rest on, and when the bucket was cleaned up.
CREATE TABLE storage_state (
    only_row      boolean NOT NULL DEFAULT true,
    bucket        text NOT NULL DEFAULT '',
    counting_from timestamptz,
    counted_from  timestamptz,
    counted_at    timestamptz,
    drift_bytes   bigint NOT NULL DEFAULT 0,
    cleaned_at    timestamptz,
    requested_at  timestamptz,
    CONSTRAINT storage_state_pkey PRIMARY KEY (only_row),
    CONSTRAINT storage_state_only_row CHECK (only_row)
);
INSERT INTO storage_state DEFAULT VALUES;

-- Objects that a clean-up has decided to delete (expired_at is null: not done yet) and those that rows still name
-- although they have gone. A row leaves when its object comes back.
CREATE TABLE expired_objects (
    s3_key       text NOT NULL,
    tenant_id    text NOT NULL,
    kind         text NOT NULL,
    size_bytes   bigint NOT NULL,
    modified_at  timestamptz,
    reason       text NOT NULL,
    condemned_at timestamptz NOT NULL DEFAULT now(),
    expired_at   timestamptz,
    CONSTRAINT expired_objects_pkey PRIMARY KEY (s3_key)
);
CREATE INDEX expired_objects_pending ON expired_objects (condemned_at, s3_key) WHERE expired_at IS NULL;

-- What operators did to a tenant's budget: who, when, what. A budget whose ledger was lost is rebuilt from it.
CREATE TABLE budget_actions (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id text NOT NULL,
    action    text NOT NULL,
    value     bigint,
    operator  text NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    reason    text,
    CONSTRAINT budget_actions_pkey PRIMARY KEY (id),
    CONSTRAINT budget_actions_action CHECK (action IN ('reset', 'set_limit', 'pause', 'resume')),
    CONSTRAINT budget_actions_value CHECK (value >= 0)
);
CREATE INDEX budget_actions_tenant ON budget_actions (tenant_id, action, id DESC);

-- What operators did with dead letters, so that lists show what is left to do and nobody replays poison for ever.
CREATE TABLE dead_letter_actions (
    id           bigint GENERATED ALWAYS AS IDENTITY,
    letter_id    text NOT NULL,
    last_seen_ms bigint NOT NULL,
    subject      text NOT NULL,
    action       text NOT NULL,
    destination  text,
    operator     text NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    reason       text,
    CONSTRAINT dead_letter_actions_pkey PRIMARY KEY (id),
    CONSTRAINT dead_letter_actions_action CHECK (action IN ('replayed', 'discarded'))
);
CREATE INDEX dead_letter_actions_letter ON dead_letter_actions (letter_id);
-- a letter that came back after a replay has another id, but the same subject
CREATE INDEX dead_letter_actions_subject ON dead_letter_actions (subject);

-- What operators did with posts: a replay may cost tokens again, so it is kept who asked for it and why.
CREATE TABLE post_actions (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id      text NOT NULL,
    post_id        text NOT NULL,
    action         text NOT NULL,
    forced         boolean NOT NULL,
    tokens_at_most bigint NOT NULL,
    destination    text NOT NULL,
    operator       text NOT NULL,
    reason         text,
    at             timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT post_actions_pkey PRIMARY KEY (id),
    CONSTRAINT post_actions_action CHECK (action IN ('replayed'))
);
CREATE INDEX post_actions_post ON post_actions (tenant_id, post_id, id DESC);

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
