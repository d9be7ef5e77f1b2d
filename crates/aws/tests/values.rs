//! Values from AWS: of answers in the services' own form, from a listener in this process, and, where
//! `WHIMBREL_TEST_AWS_ENDPOINT` names one, of a server that speaks the whole API.

#![expect(clippy::unwrap_used, reason = "what a test is made of must be there")]

use aws_config::{BehaviorVersion, Region, SdkConfig};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use whimbrel_aws::{CognitoUsers, Parameters, Removal, Secrets, Session};
use whimbrel_spec::{Creation, Provider, ProviderError};

/// One answer: the operation that it is for, its status and its body.
type Answer = (&'static str, u16, Value);

/// A listener that gives each operation its next answer, and keeps what was asked.
struct Recorded {
    endpoint: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Recorded {
    fn new(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (Arc::new(Mutex::new(answers)), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                std::thread::spawn(move || serve(&stream, &answers, &seen));
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self, operation: &str) -> Vec<Value> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(name, _)| name == operation).map(|(_, body)| body.clone()).collect()
    }
}

fn serve(stream: &TcpStream, answers: &Mutex<Vec<Answer>>, seen: &Mutex<Vec<(String, Value)>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut operation, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(target) = line.strip_prefix("x-amz-target:") {
                operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            }
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        seen.lock().unwrap().push((operation.clone(), serde_json::from_slice(&body).unwrap()));
        let mut answers = answers.lock().unwrap();
        let at = answers.iter().position(|(name, ..)| name.to_lowercase() == operation);
        let (status, body) = match at {
            Some(at) => {
                let (_, status, body) = answers.remove(at);
                (status, body.to_string())
            }
            None => (400, json!({ "__type": "NothingRecorded" }).to_string()),
        };
        let head = "content-type: application/x-amz-json-1.1\r\nconnection: keep-alive";
        let sent = write!(
            &mut &*stream,
            "HTTP/1.1 {status} x\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if sent.is_err() {
            return;
        }
    }
}

async fn config(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .test_credentials()
        .load()
        .await
}

async fn session(endpoint: &str) -> Session {
    Session::of(config(endpoint).await)
}

fn told(error: &ProviderError) -> String {
    let absent = if error.absent { " (absent)" } else { "" };
    format!("{error}{absent}; {}", error.hint)
}

#[tokio::test]
async fn parameters_are_decrypted_and_secret() {
    let parameter =
        |kind: &str, value: &str| json!({ "Parameter": { "Name": "/a", "Type": kind, "Value": value } });
    let server = Recorded::new(vec![
        ("GetParameter", 200, parameter("SecureString", "postgres://ann:hush@h/db")),
        ("GetParameter", 200, parameter("StringList", "a,b")),
        ("GetParameter", 400, json!({ "__type": "ParameterNotFound" })),
        (
            "GetParameter",
            400,
            json!({ "__type": "AccessDeniedException", "message": "User is not authorized" }),
        ),
        ("GetParameter", 400, json!({ "__type": "ExpiredTokenException" })),
    ]);
    let parameters = Parameters::new(session(&server.endpoint).await);
    let found = parameters.lookup("/collections/dev/database-url").await.unwrap().unwrap();
    assert_eq!((found.value.as_str(), found.secret), ("postgres://ann:hush@h/db", true));
    let asked = server.asked("getparameter");
    assert_eq!(asked, [json!({ "Name": "/collections/dev/database-url", "WithDecryption": true })]);
    assert!(!parameters.lookup("/list").await.unwrap().unwrap().secret);
    assert_eq!(
        told(&parameters.lookup("/none").await.unwrap_err()),
        "SSM Parameter Store: there is no `/none` (absent); check its name, the region and the account"
    );
    assert_eq!(
        told(&parameters.lookup("/hidden").await.unwrap_err()),
        "SSM Parameter Store: reading `/hidden` is not allowed; allow the action `ssm:GetParameter (and kms:Decrypt \
         on its key)` to these credentials"
    );
    assert!(told(&parameters.lookup("/old").await.unwrap_err()).contains("wrong or expired"));
    assert!(told(&parameters.lookup("").await.unwrap_err()).starts_with("a parameter has no name"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_missing_value() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let parameters = Parameters::new(session(&format!("http://{closed}")).await);
    let error = parameters.lookup("/a").await.unwrap_err();
    assert!(!error.absent);
    assert!(told(&error).contains("AWS is not reached"));
}

#[tokio::test]
async fn secrets_are_read_whole_or_by_key() {
    let secret = json!({ "Name": "db", "SecretString": r#"{"username":"ann","password":"hush"}"# });
    let server = Recorded::new(vec![
        ("GetSecretValue", 200, secret.clone()),
        ("GetSecretValue", 200, secret),
        ("GetSecretValue", 400, json!({ "__type": "ResourceNotFoundException" })),
    ]);
    let secrets = Secrets::new(session(&server.endpoint).await);
    let found = secrets.lookup("db#password").await.unwrap().unwrap();
    assert_eq!((found.value.as_str(), found.secret), ("hush", true));
    assert!(secrets.lookup("db").await.unwrap().unwrap().value.starts_with('{'));
    let missing = secrets.lookup("other").await.unwrap_err();
    assert!(missing.absent && missing.message.contains("`other`"), "{missing}");
}

#[tokio::test]
async fn a_user_is_made_with_a_mark_and_removed_only_with_it() {
    let user = |mark: &str| {
        json!({ "Username": "ann", "UserAttributes": [
            { "Name": "sub", "Value": "8a1b" }, { "Name": "profile", "Value": mark },
        ] })
    };
    let ours = "urn:whimbrel:collections/dev";
    let server = Recorded::new(vec![
        ("AdminGetUser", 400, json!({ "__type": "UserNotFoundException" })),
        ("AdminCreateUser", 200, json!({ "User": { "Username": "ann" } })),
        ("AdminGetUser", 200, user(ours)),
        ("AdminGetUser", 200, user("urn:whimbrel:collections/prod")),
        ("AdminGetUser", 200, user(ours)),
        ("AdminDeleteUser", 200, json!({})),
    ]);
    let users = CognitoUsers::new(session(&server.endpoint).await);
    let creation = Creation { email: Some("a@example.com".to_owned()), owner: "collections/dev".to_owned() };
    scene_of_a_user(&users, "us-east-1_A/ann#sub", &creation, |sub| assert_eq!(sub, "8a1b")).await;
    assert_eq!(server.asked("admindeleteuser").len(), 1);
    let made = &server.asked("admincreateuser")[0];
    assert_eq!(made["MessageAction"], "SUPPRESS");
    assert_eq!(made["UserAttributes"][0], json!({ "Name": "profile", "Value": ours }));
}

/// Not there; made; not removed for another owner; removed for its own.
async fn scene_of_a_user(users: &CognitoUsers, argument: &str, creation: &Creation, check: impl Fn(&str)) {
    assert_eq!(users.lookup(argument).await.unwrap().map(|found| found.value), None);
    let made = users.create(argument, creation).await.unwrap().unwrap();
    check(&made.value);
    assert_eq!(users.remove(argument, "collections/dev-2").await.unwrap(), Removal::NotOurs);
    assert_eq!(users.remove(argument, &creation.owner).await.unwrap(), Removal::Removed);
}

/// The same on a server, with values of its own making.
#[tokio::test]
async fn values_of_a_server_that_speaks_the_whole_api() {
    let Ok(endpoint) = std::env::var("WHIMBREL_TEST_AWS_ENDPOINT") else {
        eprintln!("left out: WHIMBREL_TEST_AWS_ENDPOINT is not set");
        return;
    };
    let config = config(&endpoint).await;
    let unique = format!("whimbrel-{}", std::process::id());
    let ssm = aws_sdk_ssm::Client::new(&config);
    let path = format!("/{unique}/database-url");
    let secure = aws_sdk_ssm::types::ParameterType::SecureString;
    ssm.put_parameter().name(&path).value("postgres://h/db").r#type(secure).send().await.unwrap();
    let parameters = Parameters::new(Session::of(config.clone()));
    assert_eq!(parameters.lookup(&path).await.unwrap().unwrap().value, "postgres://h/db");
    assert!(parameters.lookup(&format!("{path}-2")).await.unwrap_err().absent);
    let manager = aws_sdk_secretsmanager::Client::new(&config);
    manager.create_secret().name(&unique).secret_string(r#"{"password":"p"}"#).send().await.unwrap();
    let secrets = Secrets::new(Session::of(config.clone()));
    assert_eq!(secrets.lookup(&format!("{unique}#password")).await.unwrap().unwrap().value, "p");
    assert!(secrets.lookup(&format!("{unique}-2")).await.unwrap_err().absent);
    let cognito = aws_sdk_cognitoidentityprovider::Client::new(&config);
    let pool = cognito.create_user_pool().pool_name(&unique).send().await.unwrap().user_pool.unwrap();
    let users = CognitoUsers::new(Session::of(config));
    let creation = Creation { email: Some("a@example.com".to_owned()), owner: "collections/dev".to_owned() };
    let argument = format!("{}/ann#sub", pool.id.unwrap());
    scene_of_a_user(&users, &argument, &creation, |sub| assert_eq!(sub.len(), 36, "{sub}")).await;
    assert_eq!(users.remove(&argument, &creation.owner).await.unwrap(), Removal::Absent);
}
