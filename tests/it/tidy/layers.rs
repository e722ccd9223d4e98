//! Arrows between the layers run one way.

use super::assert_none;
use super::imports::imports;

/// What each layer may use of the other layers. What is not a layer is the pure core.
const ARROWS: [(&str, &[&str]); 11] = [
    ("event", &[]),
    ("catalog", &["event"]),
    ("capture", &["event", "catalog"]),
    ("protocol", &["event", "catalog"]),
    ("remote", &["event", "protocol"]),
    ("store", &["event", "catalog", "capture", "protocol"]),
    ("sync", &["event", "catalog", "capture", "protocol", "remote", "store"]),
    ("audit", &["event", "catalog", "store"]),
    ("hub", &["event"]),
    ("inspect", &["event", "catalog", "remote", "store", "sync", "audit"]),
    ("cli", &["event", "catalog", "protocol", "remote", "sync", "inspect", "hub", "replicator"]),
];
const LAYERS: [&str; 12] = [
    "event",
    "catalog",
    "capture",
    "protocol",
    "remote",
    "store",
    "sync",
    "audit",
    "inspect",
    "hub",
    "cli",
    "replicator",
];

#[test]
fn arrows_run_one_way() {
    let layer = |path: &str| {
        let name = path.trim_start_matches("src/").split(['/', '.']).next().unwrap();
        name.to_owned()
    };
    let mut found = Vec::new();
    for ((from, to), name) in imports() {
        // What the facade exports counts as its own, wherever it is defined.
        let facade = name.starts_with("crate::inspect::");
        let used = if facade { "inspect".to_owned() } else { layer(&to) };
        let user = layer(&from);
        let allowed = match ARROWS.iter().find(|(name, _)| *name == user) {
            Some((_, allowed)) => *allowed,
            // These are on top of everything.
            None if ["lib", "main", "replicator"].contains(&user.as_str()) => continue,
            None => &[],
        };
        let is_layer = LAYERS.contains(&used.as_str());
        if is_layer && used != user && !allowed.contains(&used.as_str()) {
            found.push(format!("{from} uses {to}: {name}"));
        }
    }
    assert_none("arrows between modules run one way", &found);
}
