//! What the API server makes of a schema: Rust has numbers whose formats it warns of, and optional fields need not be null.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Takes the formats of unsigned numbers out of a schema. What they say is said by minimum and maximum.
pub(crate) fn replace_unknown(schema: &mut JSONSchemaProps) {
    each(schema, &mut |schema| {
        let maximum = match schema.format.as_deref() {
            Some("uint8") => Some(f64::from(u8::MAX)),
            Some("uint16") => Some(f64::from(u16::MAX)),
            Some("uint32") => Some(f64::from(u32::MAX)),
            _ => None,
        };
        if maximum.is_some() || schema.format.as_deref() == Some("uint64") {
            schema.format = None;
            schema.minimum = schema.minimum.or(Some(0.0));
            schema.maximum = schema.maximum.or(maximum);
        }
    });
}

/// Lets no field be null: the API server then drops a null, so that `has()` of a rule says whether there is a value.
pub(crate) fn refuse_null(schema: &mut JSONSchemaProps) {
    each(schema, &mut |schema| {
        schema.nullable = None;
        if let Some(values) = &mut schema.enum_ {
            values.retain(|value| !value.0.is_null());
        }
    });
}

/// Visits a schema and everything in it.
fn each(schema: &mut JSONSchemaProps, visit: &mut impl FnMut(&mut JSONSchemaProps)) {
    visit(schema);
    let parts = schema.properties.iter_mut().flat_map(|it| it.values_mut());
    let choices = [&mut schema.any_of, &mut schema.all_of, &mut schema.one_of];
    let choices = choices.into_iter().flatten().flatten();
    for part in parts.chain(choices) {
        each(part, visit);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => each(items, visit),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            for item in items {
                each(item, visit);
            }
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        each(values, visit);
    }
}
