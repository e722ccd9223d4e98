//! Circles of files that import one another.

use std::collections::HashMap;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::imports::imports;
use super::ratchets::{self, Ratchet};

/// The circles, the largest first. Each has its files, and its imports with a name for each.
fn circles() -> Vec<(Vec<String>, Vec<String>)> {
    let imports = imports();
    let mut graph = DiGraph::<String, ()>::new();
    let mut nodes = HashMap::new();
    for (from, to) in imports.keys() {
        let [from, to] = [from, to]
            .map(|file| *nodes.entry(file.clone()).or_insert_with(|| graph.add_node(file.clone())));
        graph.add_edge(from, to, ());
    }
    let mut circles = Vec::new();
    for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
        let mut files: Vec<_> = circle.into_iter().map(|node| graph[node].clone()).collect();
        files.sort();
        let within = imports.iter().filter(|((from, to), _)| {
            files.binary_search(from).is_ok() && files.binary_search(to).is_ok()
        });
        let within = within.map(|((from, to), name)| format!("{from} → {to}: {name}"));
        circles.push((files.clone(), within.collect()));
    }
    circles.sort_by_key(|(files, _)| (std::cmp::Reverse(files.len()), files.clone()));
    circles
}

/// The number of circles is shown and not bounded: it grows when a large one is cut in two.
#[test]
fn files_do_not_import_one_another() {
    let circles = circles();
    let mut places = Vec::new();
    for (number, (files, imports)) in circles.iter().enumerate() {
        places.push(format!("circle {} of {} files", number + 1, files.len()));
        places.extend(imports.iter().map(|import| format!("  {import}")));
    }
    Ratchet::check(&[
        Ratchet {
            what: "files that are in a circle",
            name: "FILES_IN_CIRCLES",
            bound: ratchets::FILES_IN_CIRCLES,
            found: circles.iter().map(|(files, _)| files.len()).sum(),
            places: &places,
        },
        Ratchet {
            what: "files of the largest circle",
            name: "LARGEST_CIRCLE",
            bound: ratchets::LARGEST_CIRCLE,
            found: circles.first().map_or(0, |(files, _)| files.len()),
            places: &[],
        },
    ]);
}
