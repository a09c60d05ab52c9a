//! `exportTo`: whose workloads may use an entry.

use std::collections::BTreeSet;

use portcullis_routing::{egress::ExportedTo, validate::syntax};

use super::faults::{Fault, Faults};
use crate::translate::field::Field;

const EVERYBODY: &str = "*";
const NOBODY: &str = "~";
const OWN: &str = ".";

/// Reads `exportTo` of an entry in the namespace `own`. Whatever is wrong, nobody may use the entry but those who are named.
pub(super) fn translate(
    specs: &[String],
    own: &str,
    field: &Field<'_>,
    faults: &mut Faults,
) -> ExportedTo {
    if let Some(alone) = specs
        .iter()
        .find(|spec| [EVERYBODY, NOBODY].contains(&spec.as_str()))
        && specs.iter().any(|spec| spec != alone)
    {
        let who = if alone == EVERYBODY {
            "everybody"
        } else {
            "nobody"
        };
        let fault = Fault::invalid(
            format!("{alone:?} is {who}, so it cannot stand beside others"),
            "write \"*\" alone for all namespaces, \"~\" alone for none, or names of namespaces and \".\" for the entry's own",
        );
        faults.refuse(field, fault);
        // It is shut, at least for those who are sure to be meant.
        return ExportedTo::Namespaces(vec![own.to_owned()]);
    }
    match specs.first().map(String::as_str) {
        None | Some(EVERYBODY) => ExportedTo::All,
        Some(NOBODY) => {
            faults.note(
                "ExportedToNobody",
                field,
                "the entry is exported to nobody, so it opens nothing",
                "nothing to do if that is meant; else name the namespaces that may use it",
            );
            ExportedTo::Namespaces(Vec::new())
        }
        Some(_) => {
            let namespaces = faults.keep_each(field, specs, |spec| namespace(spec, own));
            let namespaces: BTreeSet<_> = namespaces.into_iter().collect();
            ExportedTo::Namespaces(namespaces.into_iter().collect())
        }
    }
}

fn namespace(spec: &str, own: &str) -> Result<String, Fault> {
    if spec == OWN {
        return Ok(own.to_owned());
    }
    match syntax::hostname(spec) {
        Ok(()) if !spec.contains('.') => Ok(spec.to_owned()),
        _ => Err(Fault::invalid(
            format!("{spec:?} is no name of a namespace"),
            "write the name of a namespace, \".\" for the entry's own, or \"*\" alone for all",
        )),
    }
}
