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
    CONSTRAINT tenant_storage_usage_pkey PRIMARY KEY (tenant_id, content_type),
    CONSTRAINT tenant_storage_usage_type CHECK (content_type IN ('media', 'vision', 'crawl', 'album')),
    CONSTRAINT tenant_storage_usage_bytes CHECK (total_bytes >= 0),
    CONSTRAINT tenant_storage_usage_objects CHECK (objects_count >= 0)
);
