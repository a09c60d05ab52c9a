//! Tokens of service accounts: whose are believed.

use portcullis_routing::egress::TokenSettings;

use super::EgressGateways;
use crate::{finding::ObjectRef, translate::Context};

/// Who issues the tokens of service accounts, as the API server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIssuer {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Its public keys, a JSON Web Key Set (RFC 7517).
    pub jwks: String,
}

impl TokenIssuer {
    /// How tokens for an audience are checked.
    pub(super) fn settings(&self, audience: &str) -> TokenSettings {
        TokenSettings {
            issuer: self.issuer.clone(),
            audience: audience.to_owned(),
            jwks: self.jwks.clone(),
        }
    }
}

/// Who issues tokens, if that is known. Where it should be and is not, egress Gateways go on without: whoever sends a token is then
/// who its address says, and that needs no token.
pub(super) fn issuer(ctx: &Context<'_>, gateways: &EgressGateways<'_>) -> Option<TokenIssuer> {
    let why = match ctx.options.token_issuer.as_ref()? {
        Ok(issuer) => return Some(issuer.clone()),
        Err(why) => why,
    };
    for gateway in &gateways.0 {
        let gateway = ObjectRef::new("Gateway", (*gateway).clone());
        ctx.report(gateway.warning(
            "TokensIgnored",
            "",
            format!("tokens in Proxy-Authorization are ignored, as the keys of the API server are not known: {why}"),
            "let the controller's ServiceAccount get /.well-known/openid-configuration and /openid/v1/jwks, as the ClusterRole \
             system:service-account-issuer-discovery does",
        ));
    }
    None
}
