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
