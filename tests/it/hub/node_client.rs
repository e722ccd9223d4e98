//! `@libsql/client` for Node as a client of the hub. What is tested is in `client.mjs`.

use std::path::Path;
use std::process::Command;

use super::Running;
use crate::support::tools::{Tool, node_modules, require};

#[tokio::test(flavor = "multi_thread")]
async fn the_client_for_node_works() {
    let (Some(node), Some(_)) = (require(Tool::Node), require(Tool::NodePackage("@libsql/client")))
    else {
        return;
    };
    let hub = Running::start(|config| config.token = Some("right".into())).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hub/client.mjs");
    let mut command = Command::new(node);
    command.arg(script).args([hub.url.as_str(), "right"]);
    command.env("DRIFTLESS_TEST_NODE_MODULES", node_modules());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(said.ends_with("all of 9 passed\n"), "the script ran to its end: {said}");
    hub.stop().await;
}
