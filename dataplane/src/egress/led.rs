//! TLS that a route leads through an entry: whether it may pass.

use portcullis_routing::{
    EntryKey,
    egress::{CompiledEgress, Decision, Destination, Question, Verdict},
};

use crate::reason::Reason;

/// How a route leads a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Outside, through this entry.
    Through(EntryKey),
    /// To a backend of the cluster. The host is the one that the client names.
    Inside,
}

/// What the table says of TLS to the host of `question` through the entry that a route names. An Err is none of the table's.
///
/// The entry has to list the name in the greeting too, and policies are asked about it: else a route would lead a name that nobody
/// allows to a server that knows many (domain fronting). The stricter answer counts.
pub(crate) fn decide<'e>(
    egress: &'e CompiledEgress,
    entry: &EntryKey,
    question: &Question<'_>,
    greeted: Option<&str>,
) -> Result<Decision<'e>, Reason> {
    let ask = |question: &Question<'_>| {
        let decision = egress.decide_through(entry, question);
        let decision = decision.ok_or(Reason::InvalidBackend)?;
        // What is let through although no entry opens it to this caller is not what the route is for.
        let is_of_route = decision.verdict == Verdict::Refuse || decision.opened.is_some();
        is_of_route
            .then_some(decision)
            .ok_or(Reason::InvalidBackend)
    };
    let greeted = Destination::Name(greeted.ok_or(Reason::SniMissing)?);
    if !egress.lists(entry, greeted) {
        return Err(Reason::SniMismatch);
    }
    let decision = ask(question)?;
    if greeted == question.destination {
        return Ok(decision);
    }
    let named = ask(&Question {
        destination: greeted,
        ..*question
    })?;
    Ok(if named.verdict > decision.verdict {
        named
    } else {
        decision
    })
}
