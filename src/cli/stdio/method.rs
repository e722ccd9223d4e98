//! What a method is.

use std::pin::Pin;

use super::message::{Failure, Outcome, json};
use super::params::Params;
use super::sidecar::Sidecar;

/// The answer of a method.
pub(super) enum Reply {
    /// It is here: the result as JSON.
    Now(String),
    /// It comes later, from the remote. Other requests are carried out meanwhile.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send>>),
    /// It is here, and the process ends.
    Last(String),
}

impl Reply {
    /// A result.
    pub(super) fn now(result: &impl serde::Serialize) -> Result<Reply, Failure> {
        Ok(Reply::Now(json(result)))
    }

    /// A result that comes later.
    pub(super) fn later<T: serde::Serialize>(
        result: impl Future<Output = crate::error::Result<T>> + Send + 'static,
    ) -> Result<Reply, Failure> {
        let outcome = async { Ok(json(&result.await?)) };
        Ok(Reply::Later(Box::pin(outcome)))
    }
}

/// A method of the protocol.
pub(super) struct Method {
    name: &'static str,
    call: Call,
}

type Call = fn(&mut Sidecar<'_>, &mut Params) -> Result<Reply, Failure>;

impl Method {
    /// The method `name`, which `call` carries out.
    pub(super) const fn new(name: &'static str, call: Call) -> Method {
        Method { name, call }
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// What the method says.
    pub(super) fn call(
        &self,
        sidecar: &mut Sidecar<'_>,
        params: &mut Params,
    ) -> Result<Reply, Failure> {
        (self.call)(sidecar, params)
    }
}
