//! What asks the remote, and what says where it is.

use super::super::message::Failure;
use super::super::method::{Method, Reply};
use super::super::params::Params;
use super::super::sidecar::Sidecar;
use super::super::token::{GivenToken, token};
use crate::remote::probe;

pub(super) const METHODS: &[Method] = &[
    Method::new("sync", sync),
    Method::new("network_changed", network_changed),
    Method::new("test_connection", test_connection),
    Method::new("reconfigure", reconfigure),
    Method::new("preview_remote", preview_remote),
    Method::new("accept_remote", accept_remote),
];

/// Pushes and pulls at once. It answers when what is pending at the call has its verdict.
fn sync(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    let replicator = sidecar.replicator()?;
    Reply::later(async move { replicator.sync_now().await })
}

/// Tries again at once what has failed.
fn network_changed(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    sidecar.replicator()?.network_changed();
    Reply::now(&())
}

/// Tries a URL and a token. Nothing is changed, and no database needs to be open.
fn test_connection(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let url: String = params.take("url")?;
    let text: Option<String> = params.option("token")?;
    let mut options = sidecar.options();
    options.allow_plain_http |= params.option("allow_plain_http")?.unwrap_or(false);
    params.end()?;
    let token = match text {
        Some(text) => token(&text)?,
        None => sidecar.session().token(&url)?,
    };
    Reply::later(async move { Ok(probe(&url, token, options).await) })
}

/// Changes the URL and the token.
fn reconfigure(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    let url: String = params.take("url")?;
    let token = GivenToken::take(params)?;
    params.end()?;
    let credentials = token.credentials(sidecar.session(), &url)?;
    sidecar.reconfigure(url, credentials)?;
    Reply::now(&())
}

/// Looks at a remote that is refused, before a person decides about it.
fn preview_remote(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    let replicator = sidecar.replicator()?;
    Reply::later(async move { replicator.remote_preview().await })
}

/// Goes on with a remote that is refused, on purpose.
fn accept_remote(sidecar: &mut Sidecar<'_>, params: &mut Params) -> Result<Reply, Failure> {
    params.end()?;
    let replicator = sidecar.replicator()?;
    Reply::later(async move { replicator.accept_remote().await })
}
