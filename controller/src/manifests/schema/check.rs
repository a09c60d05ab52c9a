//! The walk through an object along its schema.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use super::{Kind, Problem, Schema, form, rule};
use crate::near::nearest;

impl Schema {
    /// Checks `value`, which stands at `path`; see [`super::check`].
    pub(super) fn check(&self, value: &mut Value, path: &str, problems: &mut Vec<Problem>) {
        if value.is_null() && self.nullable {
            return;
        }
        if self.opaque {
            *value = Value::Object(Map::new());
            return;
        }
        if let Some(problem) = self.wrong_type(value) {
            problems.push(invalid(path, problem, &self.remedy_of_type(value)));
            return;
        }
        let complaint = match value {
            Value::String(text) => self.check_string(text),
            Value::Number(number) => self.check_number(number.as_f64().unwrap_or_default()),
            Value::Array(items) => self.check_array(items, path, problems),
            Value::Object(fields) => self.check_object(fields, path, problems),
            _ => None,
        };
        problems
            .extend(complaint.map(|message| invalid(path, message, &self.remedy_of_form(value))));
        if !self.values.is_empty() && !self.values.contains(value) {
            problems.push(invalid(
                path,
                format!("{value} is none of {}", self.shown_values()),
                &self.remedy_of_choice(value),
            ));
        }
        if !self.combinations_hold(value) {
            problems.push(invalid(
                path,
                format!("{value} does not fit its type"),
                "correct the value, or its type",
            ));
        }
    }

    /// Checks `value` and everything in it against the rules. As in the API server, they are for objects that are
    /// otherwise right.
    pub(super) fn check_rules(&self, value: &Value, path: &str, problems: &mut Vec<Problem>) {
        if self.opaque {
            return;
        }
        for rule in rule::broken(&self.rules, value) {
            let remedy = "change the fields that the message names";
            problems.push(invalid(path, rule.message.clone(), remedy));
        }
        match (value, &self.items) {
            (Value::Object(fields), _) => {
                for (name, value) in fields {
                    if let Some(schema) = self.property(name) {
                        schema.check_rules(value, &join(path, name), problems);
                    }
                }
            }
            (Value::Array(items), Some(schema)) => {
                for (index, item) in items.iter().enumerate() {
                    schema.check_rules(item, &format!("{path}[{index}]"), problems);
                }
            }
            _ => {}
        }
    }

    fn property(&self, name: &str) -> Option<&Self> {
        self.properties
            .get(name)
            .or(self.additional_properties.as_deref())
    }

    fn wrong_type(&self, value: &Value) -> Option<String> {
        let (fits, wanted) = match self.kind? {
            Kind::Object => (value.is_object(), "an object"),
            Kind::Array => (value.is_array(), "a list"),
            Kind::String => (value.is_string(), "a string"),
            Kind::Integer => (value.is_i64() || value.is_u64(), "an integer"),
            Kind::Boolean => (value.is_boolean(), "true or false"),
        };
        (!fits).then(|| format!("must be {wanted}, not {}", shown(value)))
    }

    /// What to do about a value of another type.
    fn remedy_of_type(&self, value: &Value) -> String {
        let is_unquoted =
            self.kind == Some(Kind::String) && (value.is_number() || value.is_boolean());
        let quoted = Value::String(value.to_string());
        match (self.values.is_empty(), is_unquoted) {
            // YAML reads more than these two words as true or false: On, Off, Yes, No.
            (false, _) if !self.values.contains(&quoted) => {
                format!("use one of {}", self.shown_values())
            }
            (_, true) => self
                .form_of(&value.to_string())
                .unwrap_or_else(|| "put it in quotes".to_owned()),
            _ if self.is_quoted(value) => "write it without quotes".to_owned(),
            _ => "correct the value".to_owned(),
        }
    }

    /// Whether it is a text, and would be right if it were none.
    fn is_quoted(&self, value: &Value) -> bool {
        let text = value.as_str().unwrap_or_default();
        match self.kind {
            Some(Kind::Integer) => text.parse::<i64>().is_ok(),
            Some(Kind::Boolean) => text.parse::<bool>().is_ok(),
            _ => false,
        }
    }

    /// What to do about a value of the right type.
    fn remedy_of_form(&self, value: &Value) -> String {
        let remedy = match value {
            Value::String(text) => self.form_of(text),
            Value::Array(items) if self.min_items.is_some_and(|min| items.len() < min) => {
                Some("add one, or leave the field out if it need not be there".to_owned())
            }
            _ => None,
        };
        remedy.unwrap_or_else(|| "correct the value".to_owned())
    }

    /// What a text would be in the form that is asked for, if it does not have it.
    fn form_of(&self, text: &str) -> Option<String> {
        let pattern = self.pattern.as_ref();
        pattern
            .filter(|it| !it.is_match(text))
            .and_then(|it| form::remedy(text, &it.text))
    }

    /// What to do about a value that is none of those to choose from.
    fn remedy_of_choice(&self, value: &Value) -> String {
        let text = value.as_str().unwrap_or_default();
        let known = || self.told_values().filter_map(Value::as_str);
        if let Some(meant) = known().find(|known| plain(known) == plain(text)) {
            format!("write it as {meant:?}")
        } else if let Some(near) = nearest(text, known()) {
            format!("did you mean {near:?}?")
        } else {
            "use one of these".to_owned()
        }
    }

    /// The values to choose from that are of use.
    fn told_values(&self) -> impl Iterator<Item = &Value> {
        let is_told = |value: &&Value| value.as_str().is_none_or(|it| !self.untold.contains(&it));
        self.values.iter().filter(is_told)
    }

    fn shown_values(&self) -> String {
        let values: Vec<_> = self.told_values().map(Value::to_string).collect();
        values.join(", ")
    }

    fn check_string(&self, text: &str) -> Option<String> {
        let length = text.chars().count();
        if let Some(min) = self.min_length.filter(|min| length < *min) {
            return Some(if min == 1 {
                "must not be empty".into()
            } else {
                format!("is shorter than {min} characters")
            });
        }
        if let Some(max) = self.max_length.filter(|max| length > *max) {
            return Some(format!("is longer than {max} characters"));
        }
        let pattern = self
            .pattern
            .as_ref()
            .filter(|pattern| !pattern.is_match(text));
        pattern.map(|pattern| form::complaint(text, &pattern.text))
    }

    fn check_number(&self, number: f64) -> Option<String> {
        let is_less = self.minimum.is_some_and(|min| number < min);
        let is_more = self.maximum.is_some_and(|max| number > max);
        match (self.minimum, self.maximum) {
            (Some(min), Some(max)) if is_less || is_more => {
                Some(format!("{number} is not from {min} to {max}"))
            }
            (Some(min), _) if is_less => Some(format!("{number} is less than {min}")),
            (_, Some(max)) if is_more => Some(format!("{number} is more than {max}")),
            _ => None,
        }
    }

    fn check_array(
        &self,
        items: &mut [Value],
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<String> {
        if let Some(schema) = &self.items {
            for (index, item) in items.iter_mut().enumerate() {
                schema.check(item, &format!("{path}[{index}]"), problems);
            }
        }
        self.check_duplicates(items, path, problems);
        let length = items.len();
        if let Some(min) = self.min_items.filter(|min| length < *min) {
            return Some(if min == 1 {
                "has no entry".into()
            } else {
                format!("has fewer entries than {min}")
            });
        }
        let max = self.max_items.filter(|max| length > *max);
        max.map(|max| format!("has {length} entries, more than {max}"))
    }

    fn check_duplicates(&self, items: &[Value], path: &str, problems: &mut Vec<Problem>) {
        let identity = |item: &Value| match self.list_type.as_deref() {
            Some("set") => Some(vec![item.clone()]),
            Some("map") => Some(
                self.list_map_keys
                    .iter()
                    .map(|key| item[key.as_str()].clone())
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        };
        let what = if self.list_map_keys.is_empty() {
            "value".into()
        } else {
            self.list_map_keys.join(" and ")
        };
        for (index, item) in items.iter().enumerate() {
            let Some(own) = identity(item) else { return };
            if let Some(first) = items[..index]
                .iter()
                .position(|other| identity(other).as_ref() == Some(&own))
            {
                let message = format!("has the same {what} as {path}[{first}]");
                problems.push(invalid(
                    &format!("{path}[{index}]"),
                    message,
                    "keep one of the two",
                ));
            }
        }
    }

    fn check_object(
        &self,
        fields: &mut Map<String, Value>,
        path: &str,
        problems: &mut Vec<Problem>,
    ) -> Option<String> {
        // The API server prunes a null that is not allowed, and only then fills in defaults.
        fields.retain(|name, value| {
            !value.is_null() || self.property(name).is_none_or(|schema| schema.nullable)
        });
        for (name, schema) in &self.properties {
            if let Some(default) = &schema.default {
                fields.entry(name).or_insert_with(|| default.clone());
            }
        }
        for name in self
            .required
            .iter()
            .filter(|name| !fields.contains_key(*name))
        {
            problems.push(invalid(
                &join(path, name),
                "is missing".into(),
                "set the field",
            ));
        }
        fields.retain(|name, value| {
            if let Some(schema) = self.property(name) {
                schema.check(value, &join(path, name), problems);
            } else if !self.properties.is_empty() {
                problems.push(self.unknown_field(&join(path, name), name));
                return false;
            }
            true
        });
        let length = fields.len();
        let max = self.max_properties.filter(|max| length > *max);
        max.map(|max| format!("has {length} entries, more than {max}"))
    }

    fn unknown_field(&self, path: &str, name: &str) -> Problem {
        let known = || self.properties.keys().map(String::as_str);
        let remedy = if let Some(known) = nearest(name, known()) {
            format!("did you mean {known}? Otherwise remove the field")
        } else {
            let known: Vec<_> = known().collect();
            let known = known.join(", ");
            format!("correct its name, or remove it; the fields here are {known}")
        };
        let message = "this field is not known".into();
        Problem {
            field: path.into(),
            message,
            remedy,
            unknown_field: true,
        }
    }

    fn combinations_hold(&self, value: &Value) -> bool {
        (self.one_of.is_empty()
            || self
                .one_of
                .iter()
                .filter(|schema| schema.describes(value))
                .count()
                == 1)
            && (self.any_of.is_empty() || self.any_of.iter().any(|schema| schema.describes(value)))
            && self
                .not
                .as_ref()
                .is_none_or(|schema| !schema.describes(value))
    }

    /// Whether `value` is as this schema says: the value validations that stand below `oneOf`, `anyOf` and `not`.
    fn describes(&self, value: &Value) -> bool {
        let format = match (self.format.as_deref(), value.as_str()) {
            (Some("ipv4"), Some(text)) => text.parse::<Ipv4Addr>().is_ok(),
            (Some("ipv6"), Some(text)) => text.parse::<Ipv6Addr>().is_ok(),
            _ => true,
        };
        let properties = || {
            let of = |name: &String| value.get(name);
            self.properties
                .iter()
                .all(|(name, schema)| of(name).is_none_or(|value| schema.describes(value)))
        };
        format
            && (self.values.is_empty() || self.values.contains(value))
            && self.combinations_hold(value)
            && properties()
    }
}

fn invalid(path: &str, message: String, remedy: &str) -> Problem {
    Problem {
        field: path.into(),
        message,
        remedy: remedy.into(),
        unknown_field: false,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.into()
    } else {
        format!("{path}.{name}")
    }
}

/// A word whatever the case of its letters and what stands between them.
fn plain(word: &str) -> String {
    let letters = word.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

/// A value in a message: short ones as they are, others by their type.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        short => short.to_string(),
    }
}
