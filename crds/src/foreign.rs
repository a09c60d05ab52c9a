//! Fields that are those of Kubernetes' own kinds.

use schemars::{Schema, transform::transform_subschemas};

/// Takes the descriptions out of what lies below a field: `kubectl explain` has them at the kind that the field is of, and
/// here they would be many times the rest.
pub(crate) fn undescribed(schema: &mut Schema) {
    transform_subschemas(
        &mut |schema: &mut Schema| {
            schema.remove("description");
            undescribed(schema);
        },
        schema,
    );
}
