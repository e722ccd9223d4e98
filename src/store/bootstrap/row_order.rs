//! The order of a first sync's rows: parents come before their children.
//!
//! First the tables are ordered ([`components`]). If tables refer to one another in a cycle, or one
//! refers to itself, their rows must be ordered too: by the strongly connected components of the
//! graph of their foreign keys. Rows of one component refer to one another in a cycle and become
//! neighbours, so the push that has them is as small as possible.

use std::collections::HashMap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use crate::catalog::{ForeignKey, Table};
use crate::event::Image;
use crate::store::outbox::fk_order::{hashed, numbered, values};

/// Tables that refer to one another.
pub(in crate::store) struct Component {
    /// Their places among all tables.
    tables: Vec<usize>,
    /// Whether foreign keys lead from one of them back to it, so that its rows must be ordered.
    is_circle: bool,
}

impl Component {
    pub(in crate::store) fn tables(&self) -> &[usize] {
        &self.tables
    }

    /// Leaves out the tables of which `keep` does not say so.
    pub(in crate::store) fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        self.tables.retain(|&at| keep(at));
    }

    pub(in crate::store) fn is_circle(&self) -> bool {
        self.is_circle
    }
}

/// The tables, parents before their children.
pub(in crate::store) fn components(tables: &[&Table]) -> Vec<Component> {
    let place = |name: &str| tables.iter().position(|table| table.name.eq_ignore_ascii_case(name));
    let edges: Vec<(usize, usize)> = numbered(tables)
        .iter()
        .filter_map(|(_, child, key)| Some((place(child)?, place(&key.parent)?)))
        .collect();
    let itself = |at: usize| edges.contains(&(at, at));
    in_order(tables.len(), &edges)
        .into_iter()
        .map(|tables| Component {
            is_circle: tables.len() > 1 || tables.iter().any(|&at| itself(at)),
            tables,
        })
        .collect()
}

/// The nodes in groups. The targets of a node's edges are in its group or in an earlier one.
fn in_order(nodes: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut graph = DiGraph::<(), (), usize>::with_capacity(nodes, edges.len());
    (0..nodes).for_each(|_| {
        graph.add_node(());
    });
    for &(from, to) in edges {
        graph.add_edge(from.into(), to.into(), ());
    }
    let groups = kosaraju_scc(&graph).into_iter();
    groups
        .map(|group| {
            let mut group: Vec<usize> = group.into_iter().map(|node| node.index()).collect();
            group.sort_unstable();
            group
        })
        .collect()
}

/// Rows that are to be ordered.
pub(in crate::store) struct Rows<'t> {
    keys: Vec<(usize, &'t str, &'t ForeignKey)>,
    /// The row with the values that a foreign key may refer to, by the foreign key's number and the
    /// hash of the values.
    parents: HashMap<(usize, u64), usize>,
    /// The rows with a reference, and the reference in the same form.
    children: Vec<(usize, (usize, u64))>,
    count: usize,
}

impl<'t> Rows<'t> {
    pub(in crate::store) fn of(tables: &[&'t Table]) -> Self {
        let keys = numbered(tables);
        Rows { keys, parents: HashMap::new(), children: Vec::new(), count: 0 }
    }

    /// Adds the next row.
    pub(in crate::store) fn push(&mut self, table: &str, image: &Image) {
        for &(number, child, key) in &self.keys {
            let hash = |columns: Vec<&String>| values(image, columns.into_iter()).map(hashed);
            if child.eq_ignore_ascii_case(table)
                && let Some(wanted) = hash(key.columns.iter().map(|(child, _)| child).collect())
            {
                self.children.push((self.count, (number, wanted)));
            }
            if key.parent.eq_ignore_ascii_case(table)
                && let Some(offered) = hash(key.columns.iter().map(|(_, parent)| parent).collect())
            {
                self.parents.insert((number, offered), self.count);
            }
        }
        self.count += 1;
    }

    /// The order of the rows: their places, counted in the order of the calls of `push`.
    pub(in crate::store) fn sorted(&self) -> Vec<usize> {
        let edges: Vec<_> = self
            .children
            .iter()
            .filter_map(|(child, wanted)| Some((*child, *self.parents.get(wanted)?)))
            .collect();
        in_order(self.count, &edges).into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_first_and_circles_stand_together() {
        let list: Vec<_> = (0..50_000).map(|node| (node, node + 1)).collect();
        let order: Vec<_> = in_order(50_001, &list).into_iter().flatten().collect();
        assert!(order.iter().rev().copied().eq(0..=50_000), "a long list does not recurse");
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let nodes = random.usize(1..20);
            let edges: Vec<_> = (0..random.usize(0..30))
                .map(|_| (random.usize(0..nodes), random.usize(0..nodes)))
                .collect();
            let groups = in_order(nodes, &edges);
            let group = |node: usize| groups.iter().position(|group| group.contains(&node));
            assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), nodes, "seed {seed}");
            for &(from, to) in &edges {
                assert!(group(to) <= group(from), "seed {seed}: {edges:?} {groups:?}");
            }
        }
    }
}
