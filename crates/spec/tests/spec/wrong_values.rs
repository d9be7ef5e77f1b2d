//! Variables, parameters and choices that do not fit.

use crate::{changed, shown};
use async_trait::async_trait;
use insta::assert_snapshot;
use whimbrel_spec::{Choices, Found, Provider, ProviderError, Providers, SpecErrorKind};

const BASE: &str = r#"migration: shop
variables:
  table: "${env:SHOP_TABLE:-shop}"
  user_id: "42"
  dataset: { default: golden, oneof: [golden, full] }
environments:
  live: { variables: { database: "${env:DATABASE_URL}" } }
  demo: { variables: { database: "embedded:data/shop.pg" } }
stores:
  pg: { postgres: "${database}" }
  ddb: { dynamodb: { region: us-east-1, endpoint: "${env:ENDPOINT:-}" } }
flows:
  users:
    from: { store: pg, table: users, where: "id > $user_id" }
    checks: [{ expect: "name <> ''", else: "no name: {id}" }]
    transform: |
      SELECT 'USER#' || id AS pk, 'METADATA' AS sk, name
      FROM input
    into: { store: ddb, table: "${table}", key: [pk, sk] }
  orders:
    manual: true
    group: late
    from: { store: pg, query: "SELECT * FROM orders WHERE {slice}" }
    into: { store: ddb, table: "${dataset}" }
"#;

/// An environment without `DATABASE_URL`, and a prompt without a terminal.
struct Nothing(&'static str);

#[async_trait]
impl Provider for Nothing {
    fn name(&self) -> &'static str {
        self.0
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        match (self.0, argument) {
            ("credentials", _) => Err(ProviderError::absent("no section `[pg]`", "add `[pg]`")),
            ("prompt", _) => {
                Err(ProviderError::new("there is no terminal to ask at", "give the value with `--set`"))
            }
            ("env", "EMPTY") => Ok(Some(Found { value: String::new(), secret: false })),
            _ => Ok(None),
        }
    }
}

fn refused(from: &str, to: &str) -> String {
    match whimbrel_spec::parse(&changed(BASE, from, to), "m/x.yaml") {
        Ok(_) => "accepted".to_owned(),
        Err(error) => shown(&error),
    }
}

fn unresolved(text: &str, choices: &Choices) -> (SpecErrorKind, String) {
    let spec = whimbrel_spec::parse(text, "m/x.yaml").expect("the spec itself is right");
    let providers = Providers::new("m").with(Nothing("env")).with(Nothing("prompt"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error =
        runtime.block_on(whimbrel_spec::resolve(&spec, choices, &providers)).expect_err("it resolved");
    (error.kind(), shown(&error))
}

fn with(environment: &str, set: &[(&str, &str)], only: Option<&[&str]>) -> Choices {
    Choices {
        environment: (!environment.is_empty()).then(|| environment.to_owned()),
        set: set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        only: only.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        ..Choices::default()
    }
}

/// With the environment `demo`, after one change.
fn demo(from: &str, to: &str) -> String {
    unresolved(&changed(BASE, from, to), &with("demo", &[], None)).1
}

#[test]
fn references() {
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${shop_table}"), @r"
    m/x.yaml:3:11: there is no variable `shop_table`
      hint: variables: `database`, `dataset`, `table`, `user_id`, `environment`, `run_id`, `run_started`, `working_folder`
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${datset}"), @r"
    m/x.yaml:3:11: there is no variable `datset`
      hint: did you mean `dataset`?
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${enviroment}"), @r"
    m/x.yaml:3:11: there is no variable `enviroment`
      hint: did you mean `environment`?
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "a ${env:SHOP_TABLE"), @r"
    m/x.yaml:3:13: `${` is not closed
      hint: close it with `}`; `$${` stands for `${` itself
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${envv:SHOP_TABLE}"), @r"
    m/x.yaml:3:11: there is no provider `envv`
      hint: did you mean `env`?
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${vault:SHOP_TABLE}"), @r"
    m/x.yaml:3:11: there is no provider `vault`
      hint: providers: `env`, `file`, `prompt`, `credentials`, `cdk`, `ssm`, `secret`, `cognito`
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${env}"), @r"
    m/x.yaml:3:11: there is no variable `env`
      hint: a provider needs an argument: `${env:…}`
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${}"), @r"
    m/x.yaml:3:11: `${` names no variable
      hint: write `${name}`, `${provider:argument}` or `${name:-default}`
    ");
    assert_snapshot!(refused("key: [pk, sk]", "key: [\"${pk}\"]"), @r"
    m/x.yaml:19:51: variables do not work in `key`
      hint: `${…}` works in `stores`, `variables` and `table`; SQL takes `$name`
    ");
    assert_snapshot!(refused("else: \"no name: {id}\"", "else: \"no name: ${table}\""), @r"
    m/x.yaml:15:54: variables do not work in `else`
      hint: `${…}` works in `stores`, `variables` and `table`; SQL takes `$name`
    ");
}

#[test]
fn circles() {
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "${table}"), @r"
    m/x.yaml:3:10: the variable `table` needs itself: `table` → `table`
      hint: give one of them a value of its own
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}\"\n", "${a}\"\n  a: \"${env:A:-${b}}\"\n  b: \"x${table}\"\n"), @r"
    m/x.yaml:3:10: the variable `table` needs itself: `table` → `a` → `b` → `table`
      hint: give one of them a value of its own
    ");
    assert_snapshot!(refused("\"embedded:data/shop.pg\"", "\"${database}\""), @r"
    m/x.yaml:8:34: the variable `database` needs itself: `database` → `database`
      hint: give one of them a value of its own
    ");
}

#[test]
fn sql() {
    assert_snapshot!(refused("id > $user_id", "id > $user_di"), @r"
    m/x.yaml:14:51: there is no variable `user_di` for the parameter `$user_di`
      hint: did you mean `user_id`?
    ");
    assert_snapshot!(refused("id > $user_id", "id > '${user_id}'"), @r"
    m/x.yaml:14:52: `${…}` has no place in SQL
      hint: write `$user_id`: the value is bound, never pasted in
    ");
    assert_snapshot!(refused("id > $user_id", "id > ${user_id}"), @r"
    m/x.yaml:14:51: `${…}` has no place in SQL
      hint: write `$user_id`: the value is bound, never pasted in
    ");
    assert_snapshot!(refused("id > $user_id", "id > $1"), @r"
    m/x.yaml:14:51: parameters in SQL have names, not numbers
      hint: write `$name` of a variable
    ");
    assert_snapshot!(refused("AS sk, name\n", "AS sk,\n        $nope AS name\n"), @r"
    m/x.yaml:18:9: there is no variable `nope` for the parameter `$nope`
      hint: variables: `database`, `dataset`, `table`, `user_id`, `environment`, `run_id`, `run_started`, `working_folder`
    ");
    assert_snapshot!(refused("name <> ''", "name <> $nope"), @r"
    m/x.yaml:15:33: there is no variable `nope` for the parameter `$nope`
      hint: variables: `database`, `dataset`, `table`, `user_id`, `environment`, `run_id`, `run_started`, `working_folder`
    ");
    assert_snapshot!(refused("{slice}\"", "{slice} AND ${table} = 1\""), @r"
    m/x.yaml:23:71: `${…}` has no place in SQL
      hint: write `$table`: the value is bound, never pasted in
    ");
}

#[test]
fn a_tenant_without_a_name_is_none() {
    let scoped = |value: &str| demo("key: [pk, sk]", &format!("key: [pk, sk], scope: {{ tenant: {value} }}"));
    assert_snapshot!(scoped("''"), @r"
    m/x.yaml:19:76: `tenant` in `scope` came out empty
      hint: a tenant has a name: give its variable a value, with `--set` or in the spec
    ");
    let set = changed(BASE, "\"42\"", "\"${env:EMPTY}\"");
    let set = changed(&set, "id > $user_id", "id > 1");
    let scoped = changed(&set, "key: [pk, sk]", "key: [pk, sk], scope: { tenant: $user_id }");
    assert_snapshot!(unresolved(&scoped, &with("demo", &[], None)).1, @r"
    m/x.yaml:19:76: `tenant` in `scope` came out empty
      hint: a tenant has a name: give its variable a value, with `--set` or in the spec
    ");
}

#[test]
fn environments() {
    assert_snapshot!(refused("  demo: {", "  demo: { default: true,"), @"accepted");
    assert_snapshot!(refused("golden, oneof", "silver, oneof"), @r"
    m/x.yaml:5:23: `dataset` cannot be `silver`
      hint: allowed values: `golden`, `full`
    ");
    assert_snapshot!(refused("{ database: \"embedded:data/shop.pg\" }", "{ database: \"embedded:data/shop.pg\", dataset: ful }"), @r"
    m/x.yaml:8:68: `dataset` cannot be `ful`
      hint: did you mean `full`?
    ");
    assert_snapshot!(refused("${env:SHOP_TABLE:-shop}", "embedded:data/x"), @r"
    m/x.yaml:3:11: an embedded store is never a silent default
      hint: name it in an environment: `environments: { demo: { variables: { … } } }`
    ");
    assert_snapshot!(refused("postgres: \"${database}\"", "postgres: \"${env:DATABASE_URL:-embedded:data/x.pg}\""), @r"
    m/x.yaml:10:20: an embedded store is never a silent default
      hint: name it in an environment: `environments: { demo: { variables: { … } } }`
    ");
}

#[test]
fn choices_that_do_not_fit_the_spec_are_usage_errors() {
    let usage = |choices: &Choices| {
        let (kind, shown) = unresolved(BASE, choices);
        assert_eq!(kind, SpecErrorKind::Usage, "{shown}");
        shown
    };
    assert_snapshot!(usage(&with("", &[], None)), @r"
    m/x.yaml:6:1: no environment is chosen, and the spec has no default one
      hint: add `--env live` or `--env demo`, or write `default: true` in one of them
    ");
    assert_snapshot!(usage(&with("prod", &[], None)), @r"
    m/x.yaml:6:1: there is no environment `prod`
      hint: environments: `live`, `demo`
    ");
    assert_snapshot!(usage(&with("dmo", &[], None)), @r"
    m/x.yaml:6:1: there is no environment `dmo`
      hint: did you mean `demo`?
    ");
    assert_snapshot!(usage(&with("demo", &[("user", "1")], None)), @r"
    m/x.yaml: `--set user=…`: there is no variable `user`
      hint: did you mean `user_id`?
    ");
    assert_snapshot!(usage(&with("demo", &[("colour", "1")], None)), @r"
    m/x.yaml: `--set colour=…`: there is no variable `colour`
      hint: variables: `database`, `dataset`, `table`, `user_id`
    ");
    assert_snapshot!(usage(&with("demo", &[("dataset", "silver")], Some(&["late"]))), @r"
    m/x.yaml: `dataset` cannot be `silver`
      hint: allowed values: `golden`, `full`
    ");
    assert_snapshot!(usage(&with("demo", &[], Some(&["user"]))), @r"
    m/x.yaml: there is no flow and no group `user`
      hint: did you mean `users`?
    ");
    let manual = changed(BASE, "  users:\n", "  users:\n    manual: true\n");
    assert_snapshot!(unresolved(&manual, &with("demo", &[], None)).1, @r"
    m/x.yaml:12:1: there is no flow to run: all are `manual`
      hint: name them: `--only orders,users`
    ");
    let start = BASE.find("environments").unwrap();
    let end = BASE.find("stores").unwrap();
    let without = changed(&format!("{}{}", &BASE[..start], &BASE[end..]), "${database}", "postgres://h/d");
    assert_snapshot!(unresolved(&without, &with("demo", &[], None)).1, @r"
    m/x.yaml: there is no environment `demo`
      hint: the spec has no environments; leave `--env` out
    ");
}

#[test]
fn a_value_that_is_not_to_be_had_says_how_to_give_it() {
    let (kind, unset) = unresolved(BASE, &with("live", &[], None));
    assert_eq!(kind, SpecErrorKind::NoValue);
    assert_snapshot!(unset, @r"
    m/x.yaml:7:35: the environment variable `DATABASE_URL` is not set
      hint: set it: `export DATABASE_URL=…`, or give `--set database=…`; to try it without any server: `--env demo`
    ");
    assert_snapshot!(demo("\"42\"", "\"${env:USER_ID}\""), @r"
    m/x.yaml:4:13: the environment variable `USER_ID` is not set
      hint: set it: `export USER_ID=…`, or give `--set user_id=…`
    ");
    assert_snapshot!(demo("\"42\"", "{ secret: true }"), @r"
    m/x.yaml:14:51: the variable `user_id` has no value
      hint: give it one with `--set user_id=…`, or a default in the spec
    ");
    assert_snapshot!(demo("\"42\"", "\"${file:no/such/file}\""), @r"
    m/x.yaml:4:13: there is no file `no/such/file`
      hint: paths are relative to the spec, or give `--set user_id=…`
    ");
    assert_snapshot!(demo("\"42\"", "\"${prompt:Which user?:-nobody}\""), @r"
    m/x.yaml:4:13: there is no terminal to ask at
      hint: give the value with `--set`
    ");
    assert_snapshot!(demo("\"42\"", "\"${credentials:pg.user}\""), @r"
    m/x.yaml:4:13: the provider `credentials` cannot be asked here
      hint: give the value in another way, or give `--set user_id=…`
    ");
    let spec = changed(BASE, "\"42\"", "\"${credentials:pg.user:-${env:USER_ID}}\"");
    let spec = whimbrel_spec::parse(&spec, "m/x.yaml").unwrap();
    let providers = Providers::new("m").with(Nothing("env")).with(Nothing("credentials"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error =
        runtime.block_on(whimbrel_spec::resolve(&spec, &with("demo", &[], None), &providers)).unwrap_err();
    assert_snapshot!(shown(&error), @r"
    m/x.yaml:4:36: the environment variable `USER_ID` is not set
      hint: set it: `export USER_ID=…`, or give `--set user_id=…`
    ");
    assert_snapshot!(demo("\"42\"", "\"${run_id}\""), @r"
    m/x.yaml:4:13: `run_id` has no value: it is known in a run only
      hint: give it a default: `${run_id:-…}`
    ");
    assert_snapshot!(demo("\"${env:SHOP_TABLE:-shop}\"", "\"${env:EMPTY}\""), @r"
    m/x.yaml:19:32: `table` came out empty
      hint: give its variable a value, with `--set` or in the spec
    ");
    let only_demo = changed(BASE, "{ database: \"${env:DATABASE_URL}\" }", "{}");
    assert_snapshot!(unresolved(&only_demo, &with("live", &[], None)).1, @r"
    m/x.yaml:10:20: `database` has no value in the environment `live`
      hint: give it one as `demo` does, or with `--set database=…`
    ");
}

#[test]
fn values_that_are_wrong_once_they_are_known() {
    let set = |name: &str, value: &str| unresolved(BASE, &with("demo", &[(name, value)], None)).1;
    assert_snapshot!(set("database", "mysql://user:secret@host/db"), @r"
    m/x.yaml:10:19: this is no PostgreSQL URL
      hint: write `postgres://user@host:5432/db?sslmode=verify-full`, or `embedded:PATH`
    ");
    assert_snapshot!(set("database", ""), @r"
    m/x.yaml:10:19: the URL of the store `pg` came out empty
      hint: give it as `postgres://user@host:5432/db`; to try it without any server: `--env demo`
    ");
    assert_snapshot!(set("database", "embedded:"), @r"
    m/x.yaml:10:19: this is no PostgreSQL URL
      hint: write `postgres://user@host:5432/db?sslmode=verify-full`, or `embedded:PATH`
    ");
    let parts = |parts: &str| demo("postgres: \"${database}\"", &format!("postgres: {parts}"));
    assert_snapshot!(parts("{ host: h, sslmode: verify_full }"), @r"
    m/x.yaml:10:39: `sslmode` cannot be `verify_full`
      hint: did you mean `verify-full`?
    ");
    assert_snapshot!(parts("{ host: h, port: \"${user_id}x\" }"), @r"
    m/x.yaml:10:36: `port` cannot be `42x`
      hint: it is a whole number from 1 to 65535
    ");
    assert_snapshot!(demo("\"${env:ENDPOINT:-}\"", "localhost:8000"), @r"
    m/x.yaml:11:51: `endpoint` cannot be `localhost:8000`
      hint: write `http://host:port`, `https://host` or `embedded:PATH`
    ");
    assert_snapshot!(demo("region: us-east-1", "tables: { \"${table}\": { key: a }, shop: { key: b } }"), @r"
    m/x.yaml:11:56: the key `shop` is there twice: both came out as `shop`
      hint: give each its own name
    ");
    assert_snapshot!(demo("\"${env:ENDPOINT:-}\"", "\"${database}\""), @r"
    m/x.yaml:10:3: the stores `ddb` and `pg` share `embedded:data/shop.pg`
      hint: give each its own path
    ");
}

#[test]
fn a_file_that_a_store_names_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.yaml");
    let cases = [
        ("{ postgres: \"${database}\" }", "{ postgres: \"${database}\", schema: no.sql }"),
        ("region: us-east-1", "tables: { shop: { file: no.json } }"),
    ];
    let shown = cases.map(|(from, to)| {
        let spec = whimbrel_spec::parse(&changed(BASE, from, to), &path).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let providers = Providers::new(folder.path()).with(Nothing("env"));
        let choices = with("demo", &[], None);
        let error = runtime.block_on(whimbrel_spec::resolve(&spec, &choices, &providers)).unwrap_err();
        assert_eq!(error.kind(), SpecErrorKind::Unreadable);
        shown(&error).replace(&folder.path().display().to_string(), "FOLDER")
    });
    assert_snapshot!(shown.join("\n"), @r"
    FOLDER/x.yaml:10:42: the file `no.sql` cannot be read: No such file or directory (os error 2)
      hint: paths are relative to the spec: it was looked for at `FOLDER/no.sql`
    FOLDER/x.yaml:11:46: the file `no.json` cannot be read: No such file or directory (os error 2)
      hint: paths are relative to the spec: it was looked for at `FOLDER/no.json`
    ");
}

#[test]
fn a_spec_that_cannot_be_read() {
    let error = whimbrel_spec::load("no/such/spec.yaml").unwrap_err();
    assert_eq!(error.kind(), SpecErrorKind::Unreadable);
    assert_snapshot!(shown(&error), @r"
    no/such/spec.yaml: the spec cannot be read: No such file or directory (os error 2)
      hint: give the path of a spec, as in `whimbrel plan migrations/ratel/ratel.yaml`
    ");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin.yaml");
    std::fs::write(&path, b"migration: shop\nvariables: { a: \xfc }\n").unwrap();
    let error = whimbrel_spec::load(&path).unwrap_err();
    assert_snapshot!(shown(&error).replace(&folder.path().display().to_string(), "FOLDER"), @r"
    FOLDER/latin.yaml:2:17: the text is not UTF-8
      hint: save the file as UTF-8
    ");
}
