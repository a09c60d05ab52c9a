//! `x-kubernetes-validations`: rules in CEL.

use std::sync::{Arc, LazyLock, OnceLock};

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
    rule: String,
    pub(super) message: String,
    #[serde(skip)]
    program: OnceLock<Option<Program>>,
}

impl Rule {
    /// Whether `value` obeys. A rule about the old object says nothing about one that is new.
    pub(super) fn holds(&self, value: &CelValue) -> bool {
        let Some(program) = self.program().filter(|_| !self.rule.contains("oldSelf")) else {
            return true;
        };
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        context.add_variable_from_value("self", value.clone());
        match program.execute(&context) {
            Ok(CelValue::Bool(holds)) => holds,
            // The field that the rule asks for is absent: the API server takes that for a violation too.
            Err(ExecutionError::NoSuchKey(_)) => false,
            Ok(_) | Err(_) => true,
        }
    }

    fn program(&self) -> Option<&Program> {
        self.program
            .get_or_init(|| ENVIRONMENT.compile(&self.rule).ok())
            .as_ref()
    }
}

/// `value` as rules see it.
pub(super) fn cel_value(value: &Value) -> Option<CelValue> {
    cel::to_value(escaped(value)).ok()
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
        let references = self.program().expect(&self.rule).references();
        references
            .functions()
            .into_iter()
            .map(ToOwned::to_owned)
            .collect()
    }
}
