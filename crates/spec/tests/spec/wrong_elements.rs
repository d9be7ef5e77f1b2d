//! `each`, `key_as` and `shape` with one mistake each.

use crate::changed;
use crate::wrong::{BASE, refused, text_refused};
use insta::assert_snapshot;

#[test]
fn paths_to_elements() {
    let from = |keys: &str| refused("      slice_by: id", &format!("      {keys}"));
    assert_snapshot!(from("each: tokens[*]"), @r"
    m/x.yaml:25:13: `each`: a path begins with `$`, the record
      hint: write `$.tokens[*]` for a list, `$.a.*` for an object's members, `$.*` for the record's
    ");
    assert_snapshot!(from("each: \"$.tokens\""), @r"
    m/x.yaml:25:22: `each`: a path ends with `[*]` or `.*`: what it finds are many
      hint: write `$.tokens[*]` for a list, `$.a.*` for an object's members, `$.*` for the record's
    ");
    assert_snapshot!(from("each: '$.tokens[0]'"), @r"
    m/x.yaml:25:22: `each`: only `[*]` stands in brackets: every element of a list
      hint: write `$.tokens[*]` for a list, `$.a.*` for an object's members, `$.*` for the record's
    ");
    assert_snapshot!(from("each: $.to kens[*]"), @r"
    m/x.yaml:25:17: `each`: ' ' has no place in a name of a path
      hint: write `$.tokens[*]` for a list, `$.a.*` for an object's members, `$.*` for the record's
    ");
    assert_snapshot!(from("each: [a]"), @r"
    m/x.yaml:25:13: `each` must be text, not a list
      hint: `whimbrel schema` describes it
    ");
    assert_snapshot!(from("key_as: project"), @r"
    m/x.yaml:25:7: `key_as` belongs to `each`
      hint: add `each: $.path.*`, or leave `key_as` out
    ");
    assert_snapshot!(from("each: $.tokens[*]\n      key_as: project"), @r"
    m/x.yaml:26:15: `key_as` takes the keys of an object's members, and the path has no `.*`
      hint: end the path with `.*`, or leave `key_as` out
    ");
    assert_snapshot!(from("each: $.*.*\n      key_as: project"), @r"
    m/x.yaml:26:15: the path has several `.*`, and `key_as` takes the keys of one
      hint: leave `key_as` out, or make it two flows
    ");
    assert_snapshot!(from("each: $.*\n      key_as: _position"), @r"
    m/x.yaml:26:15: `key_as` cannot be `_position`
      hint: give the column a name of its own
    ");
    for right in
        ["each: $.tokens[*]", "each: '$[*]'", "each: $.*\n      key_as: p", "each: $.*.t[*]\n      key_as: p"]
    {
        assert_eq!(from(right), "accepted", "{right}");
    }
}

#[test]
fn a_shape_is_that_of_a_file() {
    let into = |keys: &str| refused("      key: [pk, sk]", &format!("      {keys}"));
    assert_snapshot!(into("shape: { object_by: project }"), @r"
    m/x.yaml:37:7: `shape` belongs to a file
      hint: name the file with `path`, or leave `shape` out
    ");
    assert_snapshot!(into("shape: { objectby: project }"), @r"
    m/x.yaml:37:16: unknown key `objectby` in a flow's `shape`
      hint: did you mean `object_by`?
    ");
    assert_snapshot!(into("shape: project"), @r"
    m/x.yaml:37:14: `shape` must be a mapping, not text
      hint: its keys: `object_by`, `records_by`, `list`
    ");
}

#[test]
fn a_shape_says_by_which_column() {
    let file = changed(
        BASE,
        "    postgres: \"${database}\"\n    schema: schema.sql",
        "    postgres: \"${database}\"\n  dump: { files: out }",
    );
    let flow = "    into: { store: ddb, table: \"${table}\", key: pk, mode: skip_existing }";
    let shaped = |shape: &str| {
        let into = format!("    into: {{ store: dump, path: p.json, shape: {{ {shape} }} }}");
        text_refused(&changed(&file, flow, &into))
    };
    assert_eq!(shaped("object_by: project"), "accepted");
    assert_eq!(shaped("records_by: project, list: tokens"), "accepted");
    assert_snapshot!(shaped(""), @r"
    m/x.yaml:45:47: the `shape` does not say by which column
      hint: add `object_by: …`, the column whose values are the keys of one object, or `records_by: …`
    ");
    assert_snapshot!(shaped("object_by: ''"), @r"
    m/x.yaml:45:60: `object_by` names no column
      hint: name the column whose values tell the documents apart
    ");
    assert_snapshot!(shaped("object_by: project, records_by: project"), @r"
    m/x.yaml:45:69: a file is one object, or holds records
      hint: leave `object_by` or `records_by` out
    ");
    assert_snapshot!(shaped("list: tokens"), @r"
    m/x.yaml:45:47: the `shape` does not say by which column
      hint: add `object_by: …`, the column whose values are the keys of one object, or `records_by: …`
    ");
    assert_snapshot!(shaped("object_by: project, list: ''"), @r"
    m/x.yaml:45:75: `list` cannot be named so
      hint: give the list a name of its own
    ");
    assert_snapshot!(shaped("records_by: project, list: project"), @r"
    m/x.yaml:45:76: `list` cannot be named so
      hint: give the list a name of its own
    ");
}

#[test]
fn only_an_update_is_guarded() {
    let into = |keys: &str| refused("      key: [pk, sk]", &format!("      key: [pk, sk]\n      {keys}"));
    assert_snapshot!(into("guarded: true"), @r"
    m/x.yaml:38:7: `guarded` belongs to `mode: update`
      hint: add `mode: update`, or leave `guarded` out
    ");
    assert_snapshot!(into("guarded: perhaps"), @r"
    m/x.yaml:38:16: `guarded` must be true or false, not text
      hint: write `true` or `false`, without quotes
    ");
}
