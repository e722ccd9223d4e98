//! Which file of `src/` names which other file.
//!
//! A file imports another one if its code, tests left out, names an item that the other defines:
//! in a `use`, with nested braces or not, or by a path in place (`crate::store::open()`), inside of
//! macros too. It is counted so:
//!
//! * A path is followed to the file that defines the item, through `pub use` and `pub use …::*`:
//!   `crate::store::Conflict` is an import of `src/store/conflicts/inbox.rs`, not of `src/store/mod.rs`.
//! * `mod child;` is no import, and neither is `pub use child::Item` as long as the file itself
//!   does not name `Item`: that is a table of contents.
//! * A module that is imported (`use crate::store::outbox;`) counts by what is taken from it.
//! * A name that is found nowhere (a macro made it) counts as its module's file.
//! * A method or a field that is used without its type's name is not seen.

use std::collections::{BTreeMap, HashMap, HashSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Item, UseTree, Visibility};

use super::source::{Source, is_for_tests, sources};

type Path = Vec<String>;

/// A file, the file that it imports, and a name that it takes from there.
pub(super) type Imports = BTreeMap<(String, String), String>;

/// One `use` of one name.
struct Use {
    /// The name that it has here; `*` for all names of a module.
    name: String,
    path: Path,
    is_exported: bool,
}

/// What a module has.
#[derive(Default)]
struct Names {
    file: String,
    items: HashSet<String>,
    uses: Vec<Use>,
}

pub(super) struct Tree {
    modules: HashMap<Path, Names>,
}

/// What a path leads to.
pub(super) enum Found {
    Module(Path),
    /// An item, by the module that defines it.
    Item(Path),
}

/// All imports between files of `src/`.
pub(super) fn imports() -> Imports {
    let imports = imports_of(&sources());
    assert!(imports.len() > 300, "only {} imports were found", imports.len());
    imports
}

fn imports_of(sources: &[Source]) -> Imports {
    let tree = Tree::of(sources);
    let mut imports = Imports::new();
    for source in sources.iter().filter(|source| source.path != "src/main.rs") {
        let mut paths = Paths::default();
        let code = source.items.iter().filter(|item| !matches!(item, Item::Use(_)));
        code.for_each(|item| paths.visit_item(item));
        let uses = tree.modules[&source.module].uses.iter().filter(|one| one.name != "*");
        let uses = uses.map(|one| (one.path.clone(), one.is_exported));
        for (path, is_exported) in uses.chain(paths.0.into_iter().map(|path| (path, false))) {
            if let Some(Found::Item(module)) = tree.find(&source.module, &path, 0)
                && module != source.module
                && !(is_exported && module.starts_with(&source.module))
            {
                let file = tree.modules[&module].file.clone();
                imports.entry((source.path.clone(), file)).or_insert(path.join("::"));
            }
        }
    }
    imports
}

impl Tree {
    pub(super) fn of(sources: &[Source]) -> Self {
        let mut modules = HashMap::new();
        for source in sources.iter().filter(|source| source.path != "src/main.rs") {
            let mut names = Names { file: source.path.clone(), ..Names::default() };
            for item in &source.items {
                names.add(item);
            }
            modules.insert(source.module.clone(), names);
        }
        Self { modules }
    }

    /// Follows `path`, as it is written in the module `from`.
    pub(super) fn find(&self, from: &Path, path: &[String], depth: usize) -> Option<Found> {
        // Two `use` that name one another are no Rust; this only ends a mistake of this code.
        assert!(depth < 50, "{path:?} in {from:?}");
        let mut module = from.clone();
        let mut rest = path;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = others;
        }
        let Some((name, others)) = rest.split_first() else {
            return Some(Found::Module(module));
        };
        // Of a module and an item of one name, the module has something below it.
        let found = if !others.is_empty() && self.has_child(&module, name) {
            Found::Module(child(&module, name))
        } else {
            self.name(&module, name, depth)?
        };
        match found {
            Found::Module(module) if others.is_empty() => Some(Found::Module(module)),
            Found::Module(module) => {
                let found = self.find(&module, others, depth + 1);
                found.or(Some(Found::Item(module)))
            }
            item => Some(item),
        }
    }

    /// The item or the module that `name` is in `module`.
    fn name(&self, module: &Path, name: &String, depth: usize) -> Option<Found> {
        let names = self.modules.get(module)?;
        if names.items.contains(name) {
            return Some(Found::Item(module.clone()));
        }
        if let Some(one) = names.uses.iter().find(|one| one.name == *name) {
            // `use foo::foo` of another crate must not be looked up in itself.
            return if one.path.first() == Some(name) && !self.has_child(module, name) {
                None
            } else {
                self.find(module, &one.path, depth + 1)
            };
        }
        if self.has_child(module, name) {
            return Some(Found::Module(child(module, name)));
        }
        let globs = names.uses.iter().filter(|one| one.name == "*");
        globs.filter_map(|glob| self.find(module, &glob.path, depth + 1)).find_map(|found| {
            match found {
                Found::Module(from) => self.name(&from, name, depth + 1),
                Found::Item(_) => None,
            }
        })
    }

    fn has_child(&self, module: &[String], name: &str) -> bool {
        self.modules.contains_key(&child(module, name))
    }
}

fn child(module: &[String], name: &str) -> Path {
    let own = module.iter().cloned();
    own.chain([name.to_owned()]).collect()
}

impl Names {
    fn add(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Macro(item) if item.ident.is_some() => item.ident.as_ref().unwrap(),
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Use(item) => {
                let is_exported = !matches!(item.vis, Visibility::Inherited);
                leaves(&item.tree, &[], &mut |name, path| {
                    self.uses.push(Use { name, path, is_exported });
                });
                return;
            }
            _ => return,
        };
        self.items.insert(name.to_string());
    }
}

/// The names that a `use` brings, each with its path.
pub(super) fn leaves(tree: &UseTree, prefix: &[String], give: &mut impl FnMut(String, Path)) {
    let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
    let own = || (prefix.last().cloned().unwrap_or_default(), prefix.to_vec());
    match tree {
        UseTree::Path(path) => leaves(&path.tree, &with(&path.ident), give),
        UseTree::Name(name) if name.ident == "self" => {
            let (name, path) = own();
            give(name, path);
        }
        UseTree::Name(name) => give(name.ident.to_string(), with(&name.ident)),
        UseTree::Rename(rename) if rename.ident == "self" => {
            give(rename.rename.to_string(), prefix.to_vec());
        }
        UseTree::Rename(rename) => give(rename.rename.to_string(), with(&rename.ident)),
        UseTree::Glob(_) => give("*".to_owned(), prefix.to_vec()),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| leaves(tree, prefix, give));
        }
    }
}

/// The paths that code names outside of `use`.
#[derive(Default)]
struct Paths(Vec<Path>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            // A `use` within a function. All names of a module count as its file.
            Item::Use(one) => leaves(&one.tree, &[], &mut |name, path| {
                let all = (name == "*").then_some(name);
                self.0.push(path.into_iter().chain(all).collect());
            }),
            Item::Macro(one) => self.tokens(one.mac.tokens.clone()),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string());
        self.0.push(segments.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        self.tokens(one.tokens.clone());
        visit::visit_macro(self, one);
    }

    fn visit_impl_item_fn(&mut self, one: &'ast syn::ImplItemFn) {
        if !is_for_tests(&one.attrs) {
            visit::visit_impl_item_fn(self, one);
        }
    }
}

impl Paths {
    /// The paths in the text of a macro: words with `::` between them.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Path::new(), 0);
        for token in tokens {
            match &token {
                TokenTree::Ident(word) => {
                    if colons != 2 {
                        self.0.push(std::mem::take(&mut path));
                    }
                    path.push(word.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                _ => colons = 0,
            }
            if colons == 0 {
                self.0.push(std::mem::take(&mut path));
            }
            if let TokenTree::Group(group) = token {
                self.tokens(group.stream());
            }
        }
        self.0.push(path);
    }
}

#[test]
fn every_way_to_import_is_seen() {
    let files = [
        ("src/lib.rs", "mod a; mod b; pub use b::one::One;"),
        (
            "src/a.rs",
            "use crate::{b::{self, One as Other}, c};
             fn f() -> u8 { b::two::two() + println!(\"{}\", 1 + crate::b::three::THREE) }
             fn g(_: crate::One) { use crate::b::four::*; four(); }
             fn same() {}
             #[cfg(test)] mod tests { use crate::b::five::Five; }
             #[cfg(all(test, unix))] use crate::b::five::Five;",
        ),
        ("src/b/mod.rs", "mod one; pub use one::*; pub mod two; pub use two::two;"),
        ("src/b/one.rs", "pub struct One; impl One { fn new() -> Self { super::same::same() } }"),
        ("src/b/two.rs", "pub fn two() -> u8 { super::two() + super::super::a::same() }"),
        ("src/b/three.rs", "pub const THREE: u8 = made_by_a_macro!(self::x, super::three);"),
        ("src/b/four.rs", "pub fn four() { crate::b::nowhere() }"),
        ("src/b/five.rs", "pub struct Five; use std::b::One; use one::one;"),
        ("src/b/same.rs", "pub fn same() {}"),
        ("src/c.rs", "pub use crate::b::One; pub use self::d::Deep; fn f(_: Deep) {}"),
        ("src/c/d.rs", "pub struct Deep; pub use crate::b::four::four;"),
    ];
    let sources = files.map(|(path, text)| Source::new(path.to_owned(), text));
    let found: Vec<_> = imports_of(&sources).into_keys().collect();
    let expected = [
        ("src/a.rs", "src/b/four.rs"),
        ("src/a.rs", "src/b/one.rs"),
        ("src/a.rs", "src/b/three.rs"),
        ("src/a.rs", "src/b/two.rs"),
        ("src/b/four.rs", "src/b/mod.rs"),
        ("src/b/one.rs", "src/b/same.rs"),
        ("src/b/two.rs", "src/a.rs"),
        ("src/c.rs", "src/b/one.rs"),
        ("src/c.rs", "src/c/d.rs"),
        ("src/c/d.rs", "src/b/four.rs"),
    ];
    assert_eq!(found, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
}
