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
