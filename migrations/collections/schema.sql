-- The tables as the document has them. langchain's two are made with the library's own definition.
CREATE TABLE items (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    filename TEXT NOT NULL,
    file_path TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);

CREATE TABLE analyses (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    raw_response JSONB,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE embeddings (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    embedding_source JSONB,
    created_at TIMESTAMP NOT NULL
);

CREATE INDEX items_of_user ON items (user_id);
CREATE INDEX analyses_of_user ON analyses (user_id);
CREATE INDEX embeddings_of_user ON embeddings (user_id);
