//! What wraps an object of a kind is a resource of that kind.

/// Implements [`kube::Resource`] for a generic wrapper `$type<K>`: of the kind that `K` is, with the metadata that `$meta` and
/// `$meta_mut` make of the wrapper `$it`.
macro_rules! delegate_resource {
    ($type:ident, $it:ident => $meta:expr, $meta_mut:expr) => {
        impl<K: ::kube::Resource> ::kube::Resource for $type<K> {
            type DynamicType = K::DynamicType;
            type Scope = K::Scope;

            fn kind(dt: &Self::DynamicType) -> ::std::borrow::Cow<'_, str> {
                K::kind(dt)
            }

            fn group(dt: &Self::DynamicType) -> ::std::borrow::Cow<'_, str> {
                K::group(dt)
            }

            fn version(dt: &Self::DynamicType) -> ::std::borrow::Cow<'_, str> {
                K::version(dt)
            }

            fn plural(dt: &Self::DynamicType) -> ::std::borrow::Cow<'_, str> {
                K::plural(dt)
            }

            fn meta(&self) -> &::kube::core::ObjectMeta {
                let $it = self;
                $meta
            }

            fn meta_mut(&mut self) -> &mut ::kube::core::ObjectMeta {
                let $it = self;
                $meta_mut
            }
        }
    };
}

pub(crate) use delegate_resource;
