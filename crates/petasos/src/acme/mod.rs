//! Certificates by ACME (RFC 8555): a certification authority is asked for one before it is needed, and for the next one before it
//! expires.
//!
//! [`keeper`] decides when, by [`schedule`]; [`authority`] asks, over [`client`]; [`shelf`] keeps the account, the certificate and
//! who is asking, where all nodes find them; [`challenges`] answers the authority, on every node. No key is ever shown.

mod authority;
mod challenges;
mod client;
mod keeper;
mod options;
mod report;
mod schedule;
mod shelf;

use std::sync::Arc;

use petasos_hub::metrics::Check;

use crate::certificates::Certificates;

pub(crate) use self::{
    challenges::Challenges,
    keeper::Keeper,
    options::{ACME_DOMAINS, AcmeOptions, Proof, state_directory},
    report::Report,
    shelf::Shelf,
};

/// Tries whether the authority of the settings answers. It is asked for nothing.
///
/// # Errors
/// In words.
pub(crate) async fn probe(options: &AcmeOptions) -> Result<(), String> {
    let roots = options.roots().map_err(|error| error.to_string())?;
    client::Client::new(roots)?.probe(&options.directory).await
}

/// Whether there is a certificate, for operators.
pub(crate) fn check(offer: &Certificates, report: &Arc<Report>) -> impl Fn() -> Check + Send + Sync + use<> {
    let (offer, report) = (offer.clone(), Arc::clone(report));
    move || {
        let is_ok = offer.is_ready();
        let found = match (report.unsaved(), report.problem()) {
            (Some(problem), _) => format!("it is there and could not be saved yet: {problem}"),
            (None, Some(problem)) if is_ok => format!("it is there and was not renewed: {problem}"),
            (None, Some(problem)) => format!("there is none yet: {problem}"),
            (None, None) if is_ok => "it is there".to_owned(),
            (None, None) => "it waits for the certification authority".to_owned(),
        };
        Check { name: "certificate", is_ok, found }
    }
}
