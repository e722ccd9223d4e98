//! What an application pulls in that embeds the library without the command and the hub.

use std::collections::BTreeSet;
use std::process::Command;

use super::ratchets;

/// Crates of the command and the hub alone, each with the blank that ends its name.
const NOT_FOR_EMBEDDERS: [&str; 9] = [
    "clap ",
    "comfy-table ",
    "indicatif ",
    "anstream ",
    "terminal_size ",
    "tracing-subscriber ",
    "axum ",
    "hyper-util ",
    "hyper v1",
];

/// `cargo tree`, each crate and version once.
fn tree(features: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--edges", "normal", "--prefix", "none", "--locked", "--offline"]);
    let output = cargo.args(features).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let (text, error) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    assert!(output.status.success(), "{}", error.unwrap());
    let lines = text.unwrap();
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn an_embedder_pulls_in_few_crates() {
    let crates = tree(&["--no-default-features"]);
    let list: Vec<_> = crates.iter().map(String::as_str).collect();
    let (count, bound) = (crates.len(), ratchets::EMBEDDED_CRATES);
    let is_bounded = cfg!(target_os = "linux");
    assert!(count <= bound || !is_bounded, "{count}, not {bound} (EMBEDDED_CRATES): {list:#?}");
    let everything = tree(&[]);
    for name in NOT_FOR_EMBEDDERS {
        assert!(everything.iter().any(|line| line.starts_with(name)), "{name} is gone");
        let found = list.iter().find(|line| line.starts_with(name));
        assert!(found.is_none(), "{found:?} is for the command or the hub alone");
    }
}
