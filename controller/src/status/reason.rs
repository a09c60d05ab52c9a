//! Condition reasons (Gateway API, `apis/v1`). Where a finding causes a condition, its code is one of these.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        /// All of them.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

reasons! {
    /// `Accepted` is True.
    ACCEPTED = "Accepted";
    /// `Programmed` False: the infrastructure has given no address yet.
    ADDRESS_NOT_ASSIGNED = "AddressNotAssigned";
    /// `Programmed` False: a requested address cannot be used.
    ADDRESS_NOT_USABLE = "AddressNotUsable";
    /// `ResolvedRefs` False: a backend does not exist.
    BACKEND_NOT_FOUND = "BackendNotFound";
    /// `InsecureFrontendValidationMode` True.
    CONFIGURATION_CHANGED = "ConfigurationChanged";
    /// `Accepted` False: another policy has the same target and comes first. Of a ServiceEntry: older ones open the same hosts and
    /// ports, and say otherwise.
    CONFLICTED = "Conflicted";
    /// `ResolvedRefs` False: a filter refers to an object that does not exist.
    FILTER_NOT_FOUND = "FilterNotFound";
    /// Another listener has the same port and hostname.
    HOSTNAME_CONFLICT = "HostnameConflict";
    /// `Accepted` False: filters of a rule exclude each other.
    INCOMPATIBLE_FILTERS = "IncompatibleFilters";
    /// `Programmed` False: not valid, so not served.
    INVALID = "Invalid";
    /// `ResolvedRefs` False: a CA is referred to in an object of a kind that holds none.
    INVALID_CA_CERTIFICATE_KIND = "InvalidCACertificateKind";
    /// `ResolvedRefs` False: a CA certificate is missing or broken.
    INVALID_CA_CERTIFICATE_REF = "InvalidCACertificateRef";
    /// `ResolvedRefs` False: a certificate is missing or broken.
    INVALID_CERTIFICATE_REF = "InvalidCertificateRef";
    /// `ResolvedRefs` False: the client certificate towards backends cannot be used.
    INVALID_CLIENT_CERTIFICATE_REF = "InvalidClientCertificateRef";
    /// `ResolvedRefs` False: a CredentialInjection is not valid, or its Secret holds no value for a header.
    INVALID_CREDENTIAL = "InvalidCredential";
    /// `ResolvedRefs` False: a `backendRef`, or a policy's reference, of an unknown kind.
    INVALID_KIND = "InvalidKind";
    /// `Accepted` False: `parametersRef` leads nowhere or to something broken.
    INVALID_PARAMETERS = "InvalidParameters";
    /// `ResolvedRefs` False: `allowedRoutes` names kinds that the listener cannot take.
    INVALID_ROUTE_KINDS = "InvalidRouteKinds";
    /// Some or all listeners of the Gateway or ListenerSet are not valid.
    LISTENERS_NOT_VALID = "ListenersNotValid";
    /// `ResolvedRefs` False: a reference of some listener is not resolved.
    LISTENERS_NOT_RESOLVED = "ListenersNotResolved";
    /// `Conflicted` False.
    NO_CONFLICTS = "NoConflicts";
    /// `Accepted` False: the hostnames of route and listener have nothing in common.
    NO_MATCHING_LISTENER_HOSTNAME = "NoMatchingListenerHostname";
    /// `Accepted` False: no listener has the sectionName or port.
    NO_MATCHING_PARENT = "NoMatchingParent";
    /// `Programmed` False: the infrastructure cannot be made.
    NO_RESOURCES = "NoResources";
    /// `Accepted` False: no CA that certificates are to be verified with is valid.
    NO_VALID_CA_CERTIFICATE = "NoValidCACertificate";
    /// `Accepted` False: the Gateway takes no ListenerSets from this namespace.
    NOT_ALLOWED = "NotAllowed";
    /// `portcullis.dev/SourcesReadable` False.
    NOT_READABLE = "NotReadable";
    /// `Accepted` False: allowedRoutes of the listeners shuts the route out.
    NOT_ALLOWED_BY_LISTENERS = "NotAllowedByListeners";
    /// `OverlappingTLSConfig` True: the hostnames of two HTTPS listeners overlap.
    OVERLAPPING_HOSTNAMES = "OverlappingHostnames";
    /// `Accepted` False: the ListenerSet's Gateway is not accepted.
    PARENT_NOT_ACCEPTED = "ParentNotAccepted";
    /// `Programmed` False: the ListenerSet's Gateway is not programmed, or no egress Gateway is served.
    PARENT_NOT_PROGRAMMED = "ParentNotProgrammed";
    /// `Accepted` True: something of it is left out.
    PARTIALLY_INVALID = "PartiallyInvalid";
    /// Not known yet.
    PENDING = "Pending";
    /// `Programmed` is True.
    PROGRAMMED = "Programmed";
    /// The protocols of two listeners cannot share the port.
    PROTOCOL_CONFLICT = "ProtocolConflict";
    /// `Accepted` False: the namespace has more than it may.
    QUOTA_EXCEEDED = "QuotaExceeded";
    /// `ResolvedRefs` False: a reference into another namespace that no `ReferenceGrant` permits.
    REF_NOT_PERMITTED = "RefNotPermitted";
    /// `ResolvedRefs` is True.
    RESOLVED_REFS = "ResolvedRefs";
    /// `SupportedVersion` is True.
    SUPPORTED_VERSION = "SupportedVersion";
    /// `Accepted` False: what a policy is for does not exist.
    TARGET_NOT_FOUND = "TargetNotFound";
    /// `Accepted` False: an address of a type that is not supported.
    UNSUPPORTED_ADDRESS = "UnsupportedAddress";
    /// The protocol of a listener or of a Service port is not supported.
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol";
    /// A value that is not supported.
    UNSUPPORTED_VALUE = "UnsupportedValue";
    /// `SupportedVersion` is False: the installed CRDs are of another version.
    UNSUPPORTED_VERSION = "UnsupportedVersion";
}
