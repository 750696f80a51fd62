-- Lists of posts of every status, newest first, and search in what was seen on their pictures.

-- The configuration `russian` stems words in Cyrillic as Russian and words in ASCII as English. The texts are taken from
-- JSON, so that no escaped line break joins two words. 40,000 characters: a tsvector of any such text is below its limit
-- of 1 MB, so that no row is ever refused for it.
ALTER TABLE post_enrichment ADD COLUMN vision_search tsvector GENERATED ALWAYS AS (
    to_tsvector('russian', regexp_replace(left((
        jsonb_path_query_array(data, '$.enrichments[*].analysis.description')
        || jsonb_path_query_array(data, '$.enrichments[*].analysis.ocr.text')
    )::text, 40000), '\\(u[0-9a-f]{4}|.)', ' ', 'g'))
) STORED;

CREATE INDEX post_enrichment_search ON post_enrichment USING gin (vision_search);
CREATE INDEX post_enrichment_updated ON post_enrichment (updated_at, tenant_id, post_id);
CREATE INDEX post_enrichment_deferred ON post_enrichment (updated_at, tenant_id, post_id)
    WHERE kind = 'vision' AND data @> '{"media": [{"details": {"deferred": true}}]}';
CREATE INDEX post_enrichment_not_whole ON post_enrichment (updated_at, tenant_id, post_id) WHERE status <> 'ok';
CREATE INDEX post_enrichment_channel ON post_enrichment ((metadata ->> 'channel_id'), updated_at);
