//! `x-kubernetes-validations`: rules in CEL.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock, OnceLock},
};

use cel::{Context, Env, ExecutionError, Program, Value as CelValue, extensions};
use serde::Deserialize;
use serde_json::Value;

/// CEL with the functions that the API server adds to the standard ones, as far as the CRDs here use them.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    environment
        .add_extension(extensions::strings)
        .expect("no other extension is there");
    Arc::new(environment)
});

/// Words that CEL keeps for itself; the API server gives properties of these names another one.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// One rule.
#[derive(Debug, Deserialize)]
pub(super) struct Rule {
    #[serde(rename = "rule")]
    text: String,
    pub(super) message: String,
    #[serde(skip)]
    program: OnceLock<Option<Program>>,
}

impl Rule {
    /// Whether the value of `context` obeys. A rule about the old object says nothing about one that is new.
    fn holds(&self, context: &Context<'_, '_>) -> bool {
        let Some(program) = self.program().filter(|_| !self.text.contains("oldSelf")) else {
            return true;
        };
        match program.execute(context) {
            Ok(CelValue::Bool(holds)) => holds,
            // The field that the rule asks for is absent: the API server takes that for a violation too.
            Err(ExecutionError::NoSuchKey(_)) => false,
            Ok(_) | Err(_) => true,
        }
    }

    fn program(&self) -> Option<&Program> {
        self.program
            .get_or_init(|| ENVIRONMENT.compile(&self.text).ok())
            .as_ref()
    }
}

/// The rules that `value` breaks.
pub(super) fn broken<'a>(rules: &'a [Rule], value: &Value) -> Vec<&'a Rule> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    let is_ip = |text: Arc<String>| text.parse::<IpAddr>().is_ok();
    let is_ready = context.add_function("isIP", is_ip).is_ok();
    if rules.is_empty() || !is_ready || context.add_variable("self", escaped(value)).is_err() {
        return Vec::new();
    }
    rules.iter().filter(|rule| !rule.holds(&context)).collect()
}

fn escaped(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let escape = |name: &String| {
                if RESERVED.contains(&name.as_str()) {
                    format!("__{name}__")
                } else {
                    name.clone()
                }
            };
            Value::Object(
                fields
                    .iter()
                    .map(|(name, value)| (escape(name), escaped(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(escaped).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
impl Rule {
    /// The functions that it calls, if it compiles.
    pub(super) fn functions(&self) -> Vec<String> {
        let references = self.program().expect(&self.text).references();
        references
            .functions()
            .into_iter()
            .map(ToOwned::to_owned)
            .collect()
    }
}
