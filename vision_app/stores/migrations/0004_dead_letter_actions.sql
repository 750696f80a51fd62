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
    CONSTRAINT dead_letter_actions_pkey PRIMARY KEY (id),
    CONSTRAINT dead_letter_actions_action CHECK (action IN ('replayed', 'discarded'))
);
CREATE INDEX dead_letter_actions_letter ON dead_letter_actions (letter_id);
-- a letter that came back after a replay has another id, but the same subject
CREATE INDEX dead_letter_actions_subject ON dead_letter_actions (subject);
-- looking a post up by its trace id
CREATE INDEX post_enrichment_trace ON post_enrichment (trace_id);
