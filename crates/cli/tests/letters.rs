//! A migration made for the tests, out of one DynamoDB table into two of PostgreSQL: messages that come before their
//! conversations, and about half of all items broken in one way or another.

use serde_json::{Value, json};

/// The table that holds both, and things that no flow takes.
pub const TABLE: &str = "letters";
/// Partition keys: enough for every segment of a scan to have some.
const PARTITIONS: u64 = 61;
/// Messages of each conversation.
const MESSAGES: u64 = 9;
/// Kinds of conversations and of messages; the first half of each is as it should be.
const KINDS: u64 = 14;

/// The spec; its variable `database` has no default.
pub const SPEC: &str = r#"
migration: letters
variables: { database: "" }
environments:
  demo: { variables: { endpoint: "embedded:data/letters.dynamodb", table: letters } }
  live:
    default: true
    variables: { endpoint: "${env:AWS_ENDPOINT_URL_DYNAMODB}", table: "${env:LETTERS_TABLE}" }
stores:
  app: { dynamodb: { endpoint: "${endpoint}", region: us-east-1 } }
  main: { postgres: "${database}", schema: letters.sql }
defaults:
  from: { store: app, table: "${table}" }
  into: { store: main, key: [id], mode: upsert }
limits: { retry_for: 5s }
flows:
  conversations:
    from: { where: "starts_with(sk, 'CONV#')" }
    columns: { filters: json, isActive: boolean }
    checks:
      - { expect: "is_uuid(substr(sk, 6))", else: "Invalid UUID format: {sk}" }
      - { required: [userId] }
    transform: |
      SELECT substr(sk, 6) AS id, "userId" AS user_id, title, filters, coalesce("isActive", true) AS is_active,
             "createdAt" AS created_at
      FROM input WHERE coalesce(title, '') <> 'a draft'
    into: { table: conversations }
  messages:
    after: [conversations]
    from: { where: "starts_with(sk, 'MSG#')" }
    checks:
      - { expect: "is_uuid(split_part(sk, '#', 2)) AND is_uuid(split_part(sk, '#', 3))", else: "Invalid SK format: {sk}" }
      - { required: [role, content] }
    transform: |
      SELECT split_part(sk, '#', 3) AS id, split_part(sk, '#', 2) AS conversation_id, role, content,
             "createdAt" AS created_at
      FROM input
    into: { table: messages }
"#;

/// The two tables.
pub const SCHEMA: &str = "
CREATE TABLE conversations (
  id uuid PRIMARY KEY, user_id varchar(20) NOT NULL, title varchar(40), filters jsonb, is_active boolean NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE TABLE messages (
  id uuid PRIMARY KEY, conversation_id uuid NOT NULL REFERENCES conversations (id), role varchar(10) NOT NULL,
  content text NOT NULL, created_at timestamptz NOT NULL
);
CREATE INDEX messages_by_conversation ON messages (conversation_id);
";

/// All rows of both tables, a document each, by table and id.
pub const ROWS: &str = "\
SELECT jsonb_build_object('table', 'conversations', 'id', id::text, 'row', to_jsonb(conversations)) AS document FROM conversations \
UNION ALL \
SELECT jsonb_build_object('table', 'messages', 'id', id::text, 'row', to_jsonb(messages)) FROM messages";

/// What must become of the items: by flow, how many are read, filtered and arrive. The rest are rejects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub conversations: Counts,
    pub messages: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub filtered: u64,
    pub arrive: u64,
}

impl Expected {
    /// What the program says of both flows must be this.
    #[track_caller]
    pub fn assert_counts(&self, flows: &Value) {
        for (flow, expected) in [("conversations", self.conversations), ("messages", self.messages)] {
            let count = |name: &str| flows[flow][name].as_u64().expect("a number");
            let (read, filtered, arrive) = (count("read"), count("filtered"), count("created"));
            assert_eq!(Counts { read, filtered, arrive }, expected, "{flow}: {}", flows[flow]);
        }
    }
}

/// The items of so many conversations, in no order that helps, and what must become of them.
pub fn items(conversations: u64) -> (Vec<Value>, Expected) {
    let mut made = Made {
        items: Vec::new(),
        expected: Expected { conversations: Counts::default(), messages: Counts::default() },
    };
    for number in 0..conversations {
        made.conversation(number);
    }
    (made.items, made.expected)
}

struct Made {
    items: Vec<Value>,
    expected: Expected,
}

impl Made {
    fn conversation(&mut self, number: u64) {
        let id = id(1, number);
        let mut item = json!({
            "pk": text(&partition(number)), "sk": text(&format!("CONV#{id}")), "userId": text(&format!("user{number}")),
            "title": text(&format!("Conversation {number}")), "createdAt": text(&moment(number)),
            "filters": {"M": {"party": {"S": "Acme"}, "value": {"N": format!("{number}.25")}}},
        });
        let mut arrives = true;
        match number % KINDS {
            // As the first, with other types.
            1 => item["isActive"] = json!({"BOOL": false}),
            2 => item["filters"] = text(r#"{"years": [2023, 2024]}"#),
            3 => item["title"] = json!({"NULL": true}),
            4 => item["title"] = json!({"N": number.to_string()}),
            5 => {
                // A second of its id under another user: whichever comes second is a reject.
                let mut second = item.clone();
                second["pk"] = text(&partition(number + 29));
                self.items.push(second);
                self.expected.conversations.read += 1;
            }
            6 => {
                item["title"] = text("a draft");
                self.expected.conversations.filtered += 1;
                arrives = false;
            }
            kind @ 7.. => {
                arrives = false;
                match kind {
                    7 => item["sk"] = text(&format!("CONV#not-a-uuid-{number}")),
                    8 => item["userId"] = json!({"NULL": true}),
                    9 => item["title"] = text(&"A title that never ends. ".repeat(3)),
                    10 => item["createdAt"] = text("2025-02-30T10:00:00Z"),
                    11 => item["title"] = text("zero \0 byte"),
                    12 => item["isActive"] = text("yes"),
                    _ => item["userId"] = text(&"u".repeat(21)),
                }
            }
            _ => {}
        }
        self.items.push(item);
        self.expected.conversations.read += 1;
        self.expected.conversations.arrive += u64::from(arrives);
        for message in 0..MESSAGES {
            self.message(number * MESSAGES + message, &id, arrives);
        }
        if number.is_multiple_of(50) {
            self.items
                .push(json!({"pk": text(&partition(number)), "sk": text(&format!("PROFILE#{number}"))}));
        }
    }

    /// A message lies in the partition of somebody else: a scan may well come to it before its conversation.
    fn message(&mut self, number: u64, conversation: &str, has_parent: bool) {
        let id = id(2, number);
        let mut item = json!({
            "pk": text(&partition(number * 7 + 3)), "sk": text(&format!("MSG#{conversation}#{id}")),
            "role": text("user"), "content": text(&format!("Message {number} of nobody in particular")),
            "createdAt": text(&moment(number)),
        });
        let mut arrives = has_parent;
        // One in seven is broken whether or not it has a conversation; where that is broken, all of its messages are
        // orphans.
        if number.is_multiple_of(7) {
            arrives = false;
            match number / 7 % 5 {
                0 => item["sk"] = text(&format!("MSG#{id}")),
                1 => item["role"] = json!({"NULL": true}),
                2 => item["content"] = text("zero \0 byte"),
                3 => item["sk"] = text(&format!("MSG#{}#{id}", self::id(3, number))),
                _ => item["role"] = text("an assistant"),
            }
        }
        self.items.push(item);
        self.expected.messages.read += 1;
        self.expected.messages.arrive += u64::from(arrives);
    }
}

fn text(value: &str) -> Value {
    json!({ "S": value })
}

fn id(kind: u64, number: u64) -> String {
    // Neighbours are far from each other, as random ids are.
    let spread = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{:08x}-{kind:04x}-4000-8000-{number:012x}", spread >> 32)
}

fn partition(number: u64) -> String {
    format!("USER#{}", number % PARTITIONS)
}

fn moment(number: u64) -> String {
    format!(
        "2025-{:02}-{:02}T{:02}:{:02}:00.{:06}Z",
        1 + number % 12,
        1 + number % 28,
        number % 24,
        number % 60,
        number
    )
}
