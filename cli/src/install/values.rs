//! Values of the chart: which of an earlier installation stay, and which this command gives anew.

use std::fs;

use serde_json::Value;

use crate::{
    args::InstallArgs,
    output::{ODD, styled},
};

/// What becomes of the values of the earlier installation, given their names.
pub(super) fn fate(args: &InstallArgs, earlier: &[String]) -> String {
    if args.reset_values {
        let heading = styled(ODD, "Forgotten values of the earlier installation:");
        return format!("{heading} {}\n", listed(earlier));
    }
    let given = given(args);
    let (anew, kept): (Vec<_>, Vec<_>) = earlier
        .iter()
        .cloned()
        .partition(|name| given.iter().any(|it| covers(it, name)));
    let stay = format!(
        "Values of the earlier installation that stay: {}. --reset-values forgets them.\n",
        listed(&kept)
    );
    if anew.is_empty() {
        return stay;
    }
    let anew = listed(&anew);
    format!("Values of the earlier installation that this command gives anew: {anew}.\n{stay}")
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Whether giving `name` gives `other`: it is that value, or a part of it, or holds it.
fn covers(name: &str, other: &str) -> bool {
    let is_below = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
    name.strip_prefix(other).is_some_and(is_below) || other.strip_prefix(name).is_some_and(is_below)
}

/// The names that this command gives values. A file that cannot be read here is Helm's to complain of, and what is piped
/// its to read.
fn given(args: &InstallArgs) -> Vec<String> {
    let files = args.values.iter().filter(|path| path.is_file());
    let files = files.filter_map(|path| fs::read_to_string(path).ok());
    let of_files = files.filter_map(|text| serde_saphyr::from_str::<Value>(&text).ok());
    let mut given: Vec<_> = of_files.flat_map(|values| names(&values)).collect();
    given.extend(args.set.iter().flat_map(|text| assigned(text)));
    given
}

/// The names in `a.b=1,c={x,y}`. After a backslash, and in a list, a comma is part of a value.
fn assigned(text: &str) -> Vec<String> {
    let (mut depth, mut is_escaped) = (0_usize, false);
    let parts = text.split(|letter| {
        match letter {
            _ if is_escaped => {}
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let is_end = letter == ',' && depth == 0 && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    });
    parts
        .filter_map(|part| Some(part.split_once('=')?.0.to_owned()))
        .collect()
}

/// The names of all single values: `image.registry`. Lists are one value.
pub(super) fn names(values: &Value) -> Vec<String> {
    let Value::Object(values) = values else {
        return Vec::new();
    };
    let named = values.iter().flat_map(|(name, value)| match value {
        Value::Object(_) => names(value)
            .iter()
            .map(|inner| format!("{name}.{inner}"))
            .collect(),
        _ => vec![name.clone()],
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn single_values_are_named() {
        let values = json!({ "image": { "registry": "r", "tag": "" }, "extraArgs": ["a", "b"], "replicaCount": 3 });
        let mut names = names(&values);
        names.sort();
        assert_eq!(
            names,
            ["extraArgs", "image.registry", "image.tag", "replicaCount"]
        );
        assert!(super::names(&Value::Null).is_empty());
    }

    #[test]
    fn assigned_names_are_those_before_the_equals_signs() {
        for (text, expected) in [
            ("image.tag=v1", vec!["image.tag"]),
            ("a=1,b.c=x=y", vec!["a", "b.c"]),
            ("a={x,y},b=2", vec!["a", "b"]),
            ("a=x\\,b=1,c[0]=2", vec!["a", "c[0]"]),
            ("nothing", vec![]),
        ] {
            assert_eq!(assigned(text), expected, "{text}");
        }
    }

    #[test]
    fn a_value_covers_its_parts_and_is_covered_by_them() {
        assert!(covers("image", "image.tag") && covers("args[0]", "args"));
        assert!(covers("image.tag", "image.tag"));
        assert!(!covers("image.tag", "image.tagSuffix") && !covers("image", "imagePullSecrets"));
    }
}
