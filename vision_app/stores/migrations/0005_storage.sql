-- What the bucket holds, counted as we write and repaired by listings; and which objects have gone from it.

-- since_*: changes by writers after the listing in progress began, which that listing may or may not have seen
ALTER TABLE tenant_storage_usage
    ADD COLUMN since_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN since_objects bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT tenant_storage_usage_type;
ALTER TABLE tenant_storage_usage ADD CONSTRAINT tenant_storage_usage_type
    CHECK (content_type IN ('media', 'vision', 'crawl', 'album', 'other'));

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

-- a hash: keys come from events and may be longer than a b-tree takes
CREATE INDEX media_objects_key ON media_objects USING hash (s3_key);
