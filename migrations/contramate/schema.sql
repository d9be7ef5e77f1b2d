-- The tables of the guide, to the letter.
CREATE TABLE conversations (
  id UUID PRIMARY KEY,
  user_id VARCHAR(255) NOT NULL,
  title VARCHAR(500),
  filter_values JSONB,
  is_active BOOLEAN DEFAULT true,
  created_at TIMESTAMP,
  updated_at TIMESTAMP
);

CREATE TABLE messages (
  id UUID PRIMARY KEY,
  conversation_id UUID NOT NULL REFERENCES conversations(id),
  user_id VARCHAR(255) NOT NULL,
  role VARCHAR(50),
  content TEXT,
  feedback VARCHAR(50),
  filter_values JSONB,
  is_user_filter_text BOOLEAN DEFAULT false,
  msg_metadata JSONB,
  created_at TIMESTAMP,
  updated_at TIMESTAMP
);
