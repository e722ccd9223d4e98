//! The methods of the protocol, each in the file of its subject. To add one, write it there, list
//! it here, and describe it in `schema/sidecar.json` and `docs/sidecar.md`.

mod inbox;
mod lifecycle;
mod log;
mod network;

use serde_json::{Map, Value as Json};

use super::message::{Failure, NO_SUCH_METHOD};
use super::method::{Method, Reply};
use super::params::Params;
use super::sidecar::Sidecar;
use crate::error::Error;

/// The methods, in the order of the documentation.
const METHODS: [&[Method]; 4] =
    [lifecycle::METHODS, network::METHODS, inbox::METHODS, log::METHODS];

/// Carries out a request.
///
/// # Errors
///
/// What the method says; `Usage` when there is no such method, or none may be called yet.
pub(super) fn call(
    sidecar: &mut Sidecar<'_>,
    name: &str,
    params: Map<String, Json>,
) -> Result<Reply, Failure> {
    let names = || METHODS.into_iter().flatten().map(Method::name);
    if name == lifecycle::INITIALIZE {
        return lifecycle::initialize(sidecar, &mut Params::new(name, params), names().collect());
    }
    if !sidecar.has_agreed() {
        return Err(Error::usage("the version of the protocol is not agreed on")
            .with_hint("the first request is `initialize`")
            .into());
    }
    let Some(method) = METHODS.into_iter().flatten().find(|method| method.name() == name) else {
        let names: Vec<_> = names().map(|name| format!("`{name}`")).collect();
        return Err(Failure::new(NO_SUCH_METHOD, "there is no such method")
            .with_hint(format!("the methods are {}", names.join(", "))));
    };
    let outcome = method.call(sidecar, &mut Params::new(name, params));
    outcome.map_err(|failure| failure.map(|error| sidecar.session().explain(error)))
}
