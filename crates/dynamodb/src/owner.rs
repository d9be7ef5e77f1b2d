//! Whose a table is: two tags, `whimbrel:migration` and `whimbrel:environment`.

use crate::catalog::Catalog;
use crate::client::Connector;
use crate::error::Failure;
use aws_sdk_dynamodb::types::Tag;
use std::fmt::Write as _;
use whimbrel_store::{Owner, Result, StoreError, StoreErrorKind};

const MIGRATION: &str = "whimbrel:migration";
/// Empty where the migration has no environments.
const ENVIRONMENT: &str = "whimbrel:environment";

/// Whose the table is; `None` where its tags do not say, or may not be asked for.
pub(crate) async fn owner(connector: &Connector, table: &str) -> Result<Option<Owner>> {
    let Some(arn) = arn(connector, table).await? else { return Ok(None) };
    let connection = connector.connection().await?;
    let (mut migration, mut environment, mut next) = (None, None, None);
    loop {
        let page = connection.client.list_tags_of_resource().resource_arn(&arn).set_next_token(next);
        let page = match page.send().await {
            Ok(page) => page,
            Err(error) => {
                let failure = connection.failure(error).await;
                return untold(connector, table, "the tags cannot be listed", failure).map(|()| None);
            }
        };
        for tag in page.tags() {
            match tag.key() {
                MIGRATION => migration = Some(plain(tag.value())),
                ENVIRONMENT => environment = Some(plain(tag.value())),
                _ => {}
            }
        }
        next = page.next_token;
        if next.is_none() {
            break;
        }
    }
    let environment = environment.filter(|environment| !environment.is_empty());
    Ok(migration.map(|migration| Owner { migration, environment }))
}

/// Tags the table; `false` where that may not be, or cannot.
pub(crate) async fn claim(connector: &Connector, table: &str, owner: &Owner) -> Result<bool> {
    let Some(arn) = arn(connector, table).await? else { return Ok(false) };
    let connection = connector.connection().await?;
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(tagged(value)).build();
    let tags = [
        tag(MIGRATION, &owner.migration),
        tag(ENVIRONMENT, owner.environment.as_deref().unwrap_or_default()),
    ];
    let mut request = connection.client.tag_resource().resource_arn(&arn);
    for tag in tags {
        let tag = tag.map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, connector.name(), "a tag cannot be made")
                .caused_by(error)
        })?;
        request = request.tags(tag);
    }
    match request.send().await {
        Ok(_) => Ok(true),
        Err(error) => {
            let failure = connection.failure(error).await;
            untold(connector, table, "the table is not tagged", failure).map(|()| false)
        }
    }
}

async fn arn(connector: &Connector, table: &str) -> Result<Option<String>> {
    Ok(Catalog::new(connector).table(table).await?.and_then(|table| table.arn().map(str::to_owned)))
}

/// Servers on this machine may know no tags, and not everybody who may write may see or set them.
fn untold(connector: &Connector, table: &str, what: &str, failure: Failure) -> Result<()> {
    match failure.kind {
        StoreErrorKind::Unsupported | StoreErrorKind::Forbidden => Ok(()),
        _ => Err(failure.into_error(connector.name(), format!("{what}: table \"{table}\""))),
    }
}

/// A text as a tag's value, which takes letters, digits, spaces and a few signs: others become `=` and their code.
fn tagged(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || " +-._:/@".contains(c) {
            value.push(c);
        } else {
            // A String takes whatever is written to it.
            let _ = write!(value, "={:06x}", u32::from(c));
        }
    }
    value
}

/// The text of a tag's value.
fn plain(value: &str) -> String {
    let mut parts = value.split('=');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..6).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        match code {
            Some(c) => {
                text.push(c);
                text.push_str(part.get(6..).unwrap_or_default());
            }
            None => {
                text.push('=');
                text.push_str(part);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_has_a_tag() {
        for text in ["prod", "demo, rehearsal", "ü=x", "", "a=b", "==", "="] {
            let value = tagged(text);
            assert_eq!(plain(&value), text);
            assert!(value.chars().all(|c| c.is_ascii_alphanumeric() || " +-=._:/@".contains(c)), "{value}");
        }
        assert_eq!(plain("written=by hand"), "written=by hand");
    }
}
