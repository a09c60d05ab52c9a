//! Findings: what is wrong with an object, in words that say where and how to repair it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::resources::ObjectKey;

/// One thing to tell about an object. Where it is the cause of a condition, `code` is that condition's reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// Path of the field, such as `spec.rules[0].backendRefs[1].name`; empty for the object as a whole.
    pub field: String,
    /// Stable name of the kind of finding, such as `BackendNotFound`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// The text for a condition's message: field, what is wrong, what to do.
    pub fn text(&self) -> String {
        let Self {
            field,
            message,
            remedy,
            ..
        } = self;
        if field.is_empty() {
            format!("{message}; {remedy}")
        } else {
            format!("{field}: {message}; {remedy}")
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Something that was asked for is not served.
    Error,
    /// It is served, but probably not as meant.
    Warning,
    /// Worth knowing; nothing is wrong.
    Note,
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Kind, such as `HTTPRoute`.
    pub kind: String,
    /// Namespace and name.
    pub key: ObjectKey,
}

impl ObjectRef {
    /// The object `key` of `kind`.
    pub fn new(kind: impl Into<String>, key: ObjectKey) -> Self {
        Self {
            kind: kind.into(),
            key,
        }
    }

    /// A finding of severity Error about this object.
    pub fn error(
        &self,
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        self.finding(Severity::Error, code, field, message, remedy)
    }

    /// A finding of severity Warning about this object.
    pub fn warning(
        &self,
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        self.finding(Severity::Warning, code, field, message, remedy)
    }

    /// A finding of severity Note about this object.
    pub fn note(
        &self,
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        self.finding(Severity::Note, code, field, message, remedy)
    }

    fn finding(
        &self,
        severity: Severity,
        code: &'static str,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            object: self.clone(),
            field: plain(field.into()),
            code,
            severity,
            message: plain(message.into()),
            remedy: plain(remedy.into()),
        }
    }
}

/// The text with control characters as escapes. It quotes objects that anybody may have written, and goes to conditions, logs
/// and terminals, which would obey them.
fn plain(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = text.chars().map(|one| {
        if one.is_control() {
            one.escape_default().to_string()
        } else {
            one.to_string()
        }
    });
    escaped.collect()
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
