//! Members of JSON objects, told apart without reading them: each is a record, an object of one member.

use super::elements::{balanced, blanks, string, unexpected, word};
use super::frame::{Framed, TORN};
use super::input::Input;
use super::part::Within;
use crate::error::Outcome;

const NO_END: &str = "the file ends within the object, before its closing brace";

/// Appends the next member; `None`: there is none. Behind an object there may be another one.
pub(super) fn next(within: &mut Within, input: &mut Input, into: &mut Vec<u8>) -> Outcome<Option<Framed>> {
    while *within != Within::End {
        let mut found = blanks(input)?;
        if *within == Within::Array && found == Some(b',') {
            input.consume(1);
            found = blanks(input)?;
        }
        match (*within, found) {
            (Within::Array, None) => {
                *within = Within::End;
                return Ok(Some(Framed { fault: Some(NO_END) }));
            }
            (_, None) => *within = Within::End,
            (Within::Array, Some(b'}')) => {
                input.consume(1);
                *within = Within::Sequence;
            }
            (Within::Array, Some(b'"')) => {
                return member(input, into).map(|fault| Some(Framed { fault }));
            }
            (Within::Array, Some(_)) => return Err(unexpected(input, "the key of a member is expected")),
            (_, Some(b'{')) => {
                input.consume(1);
                *within = Within::Array;
            }
            (_, Some(_)) => return Err(unexpected(input, "an object is expected")),
        }
    }
    Ok(None)
}

/// Appends a member.
fn member(input: &mut Input, into: &mut Vec<u8>) -> Outcome<Option<&'static str>> {
    into.push(b'{');
    if !string(input, into)? {
        return Ok(Some(TORN));
    }
    match blanks(input)? {
        None => return Ok(Some(TORN)),
        Some(b':') => input.consume(1),
        Some(_) => return Err(unexpected(input, "a colon is expected")),
    }
    into.push(b':');
    let value = into.len();
    let is_whole = match blanks(input)? {
        None => return Ok(Some(TORN)),
        Some(b'{') => balanced(input, into, (b'{', b'}'))?,
        Some(b'[') => balanced(input, into, (b'[', b']'))?,
        Some(b'"') => string(input, into)?,
        Some(b',' | b']' | b'}' | b':') => return Err(unexpected(input, "a value is expected")),
        Some(_) => word(input, into, value)?,
    };
    into.push(b'}');
    Ok((!is_whole).then_some(TORN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::frame::Framing;
    use serde_json::{Value, json};

    /// The members of a text, read in small stretches, and the place behind each.
    fn members(text: &str, stretch_bytes: usize) -> Vec<(Value, u64)> {
        let mut input = Input::of(text.as_bytes().to_vec(), stretch_bytes);
        let mut framing = Framing::Members(Within::Start);
        let mut all = Vec::new();
        let mut into = Vec::new();
        while let Some(framed) = framing.next(&mut input, &mut into).unwrap() {
            let value = framed.fault.map_or_else(|| serde_json::from_slice(&into).unwrap(), Value::from);
            all.push((value, input.position()));
            into.clear();
        }
        all
    }

    #[test]
    fn each_member_is_a_record() {
        let text = " { \"a\\\"}\" : {\"x\": [1, {\"y\": \"}\"}]} ,\n\"b\":{ }, \"c\":7}\n{}{\"d\":\"{\"} ";
        let expected =
            [json!({"a\"}": {"x": [1, {"y": "}"}]}}), json!({"b": {}}), json!({"c": 7}), json!({"d": "{"})];
        for stretch_bytes in 1..20 {
            let found = members(text, stretch_bytes);
            let values: Vec<_> = found.iter().map(|(value, _)| value).collect();
            assert_eq!(values, expected.iter().collect::<Vec<_>>());
            for (done, (_, at)) in (1..).zip(&found) {
                let rest = text.as_bytes()[usize::try_from(*at).unwrap()..].to_vec();
                let mut input = Input::of(rest, stretch_bytes);
                let (mut framing, mut into, mut rest) = (Framing::Members(Within::Array), Vec::new(), 0);
                while framing.next(&mut input, &mut into).unwrap().is_some() {
                    rest += 1;
                }
                assert_eq!(rest, expected.len() - done);
            }
        }
        assert!(members("{}", 3).is_empty() && members("", 3).is_empty());
    }

    #[test]
    fn what_is_torn_or_no_object_is_said() {
        let faults = |text: &str| members(text, 4).into_iter().map(|(value, _)| value).collect::<Vec<_>>();
        assert_eq!(faults(r#"{"a":{}"#), [json!({"a": {}}), json!(NO_END)]);
        for torn in [r#"{"a"#, r#"{"a""#, r#"{"a":"#, r#"{"a":{"x":1"#] {
            assert_eq!(faults(torn)[0], json!(TORN), "{torn}");
        }
        for wrong in ["[1]", r#"{"a" 1}"#, "{1:2}", r#"{"a":{}} x"#, r#"{"a":}"#] {
            let mut input = Input::of(wrong.as_bytes().to_vec(), 4);
            let (mut framing, mut into) = (Framing::Members(Within::Start), Vec::new());
            let end = loop {
                match framing.next(&mut input, &mut into) {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(fault) => break Some(fault.kind()),
                }
            };
            assert_eq!(end, Some(whimbrel_store::StoreErrorKind::Protocol), "{wrong}");
        }
    }
}
