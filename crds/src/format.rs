//! Formats of numbers in a schema: Rust has some that the API server warns of.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Takes the formats of unsigned numbers out of a schema. What they say is said by minimum and maximum.
pub(crate) fn replace_unknown(schema: &mut JSONSchemaProps) {
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
    let parts = schema.properties.iter_mut().flat_map(|it| it.values_mut());
    let choices = [&mut schema.any_of, &mut schema.all_of, &mut schema.one_of];
    let choices = choices.into_iter().flatten().flatten();
    parts.chain(choices).for_each(replace_unknown);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => replace_unknown(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => {
            items.iter_mut().for_each(replace_unknown);
        }
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        replace_unknown(values);
    }
}
