//! RequestHeaderModifier and ResponseHeaderModifier.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};
use portcullis_routing::filter::{HeaderField, HeaderModifier};

use super::spec::{HeaderModifierSpec, HeaderSpec};
use crate::translate::{
    field::Field,
    problem::{Problem, Problems},
};

/// Headers that say where a message ends or how the hop works: changing them would break the framing.
const FRAMING: [HeaderName; 5] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
];

/// The list that each header stands in, by name.
type Used = BTreeMap<String, &'static str>;

/// The changes; entries that are wrong are told and left out.
pub(super) fn translate(
    spec: &HeaderModifierSpec,
    field: &Field<'_>,
    problems: &mut Problems,
) -> HeaderModifier {
    let mut used = Used::new();
    HeaderModifier {
        set: fields(&spec.set, "set", &mut used, field, problems),
        add: fields(&spec.add, "add", &mut used, field, problems),
        remove: names(&spec.remove, &mut used, &field.child("remove"), problems),
    }
}

fn fields(
    specs: &[HeaderSpec],
    action: &'static str,
    used: &mut Used,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Vec<HeaderField> {
    let list = field.child(action);
    let mut fields = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let field = list.at(index);
        let name = problems.keep(header_name(&spec.name, &field.child("name")));
        let value = problems.keep(header_value(&spec.value, &field.child("value")));
        if let (Some(name), Some(value)) = (name, value)
            && is_first(&name, action, used, &field, problems)
        {
            fields.push(HeaderField {
                name: spec.name.clone(),
                value,
            });
        }
    }
    fields
}

fn names(
    names: &[String],
    used: &mut Used,
    list: &Field<'_>,
    problems: &mut Problems,
) -> Vec<String> {
    let mut removed = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let field = list.at(index);
        if let Some(name) = problems.keep(header_name(name, &field))
            && is_first(&name, "remove", used, &field, problems)
        {
            removed.push(name);
        }
    }
    removed
}

/// Whether this is the first entry for the header. A second one in the same list is left out, as the API says; one in
/// another list would contradict the first.
fn is_first(
    name: &str,
    action: &'static str,
    used: &mut Used,
    field: &Field<'_>,
    problems: &mut Problems,
) -> bool {
    let Some(earlier) = used.get(name).copied() else {
        used.insert(name.to_owned(), action);
        return true;
    };
    problems.tell(if earlier == action {
        Problem::warning(
            "RepeatedHeader",
            field,
            format!(
                "the header `{name}` stands in `{action}` already; only its first entry counts"
            ),
            "remove one of the entries",
        )
    } else {
        Problem::unsupported(
            field,
            format!("the header `{name}` stands in `{earlier}` and in `{action}`"),
            "keep it in one of `set`, `add` and `remove`",
        )
    });
    false
}

/// The name in lower case.
fn header_name(name: &str, field: &Field<'_>) -> Result<String, Problem> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        Problem::unsupported(
            field,
            format!("{name:?} is not a valid header name"),
            "use letters, digits and `-`, such as `x-version`",
        )
    })?;
    if FRAMING.contains(&name) {
        return Err(Problem::unsupported(
            field,
            format!("the header `{name}` belongs to the connection and may not be changed"),
            "remove this entry; the proxy takes care of connections and message lengths",
        ));
    }
    Ok(name.as_str().to_owned())
}

fn header_value(value: &str, field: &Field<'_>) -> Result<String, Problem> {
    match HeaderValue::from_str(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(_) => Err(Problem::unsupported(
            field,
            format!("{value:?} holds characters that a header's value cannot hold"),
            "remove line breaks and control characters",
        )),
    }
}
