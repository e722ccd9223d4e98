//! The public surface of the library, as a list: what an application can name and call.
//!
//! The list is made of what `src/lib.rs` exports: each item without its body, its public fields and
//! methods, and the traits that it implements. `fixtures/surface.txt` has the list of the last
//! commit, so that a change of the surface is seen in a review.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proc_macro2::TokenTree;
use syn::{Attribute, Fields, ImplItem, Item, ItemImpl, Meta, Type, Visibility};

use super::imports::{Found, Tree, leaves};
use super::source::{Source, sources};

const GOLDEN: &str = "fixtures/surface.txt";

/// A public item: the module that defines it, and its name there.
type Key = (Names, String);

/// A module or a path.
type Names = Vec<String>;

#[test]
fn the_public_surface_is_the_one_that_was_reviewed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    let surface = surface();
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        fs::write(&path, &surface).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap();
    let line = surface.lines().zip(known.lines()).find(|(new, old)| new != old);
    assert!(
        surface == known,
        "the public surface is not the one of {GOLDEN}; the first line that differs (new, old): \
         {line:?}. UPDATE_GOLDENFILES=1 writes it anew: read the difference"
    );
}

fn surface() -> String {
    let sources = sources();
    let tree = Tree::of(&sources);
    let root = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let mut text = String::new();
    for (place, items) in exported(root, &sources) {
        text += &format!("// {place}\n\n");
        let mut listed = Vec::new();
        for (module, path) in items {
            let Some(Found::Item(of)) = tree.find(&module, &path, 0) else {
                // An item of another crate.
                listed.push((path.last().unwrap().clone(), format!("// {}\n", path.join("::"))));
                continue;
            };
            let key = (of, path.last().unwrap().clone());
            listed.push((key.1.clone(), listing(&sources, &tree, &key)));
        }
        listed.sort();
        for (_, item) in listed {
            text += &item;
            text.push('\n');
        }
    }
    text
}

/// The exported paths of each public module, each with the module that it is written in.
fn exported(root: &Source, sources: &[Source]) -> Vec<(String, Vec<(Names, Names)>)> {
    let mut places = vec![("driftless".to_owned(), uses(&root.items, &[]))];
    for item in &root.items {
        let Item::Mod(module) = item else { continue };
        if !is_public(&module.vis) || is_hidden(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let own = vec![name.clone()];
        let paths = match &module.content {
            Some((_, items)) => uses(items, &[]),
            None => {
                let source = sources.iter().find(|source| source.module == own).unwrap();
                let names = source.items.iter().filter_map(public_name);
                let defined = names.map(|name| (own.clone(), vec![name]));
                defined.chain(uses(&source.items, &own)).collect()
            }
        };
        places.push((format!("driftless::{name}"), paths));
    }
    places
}

/// What the items re-export.
fn uses(items: &[Item], module: &[String]) -> Vec<(Names, Names)> {
    let mut paths = Vec::new();
    for item in items {
        if let Item::Use(one) = item
            && is_public(&one.vis)
            && !is_hidden(&one.attrs)
        {
            leaves(&one.tree, &[], &mut |_, path| paths.push((module.to_vec(), path)));
        }
    }
    paths
}

fn public_name(item: &Item) -> Option<String> {
    let (vis, attrs, name) = match item {
        Item::Const(item) => (&item.vis, &item.attrs, &item.ident),
        Item::Enum(item) => (&item.vis, &item.attrs, &item.ident),
        Item::Fn(item) => (&item.vis, &item.attrs, &item.sig.ident),
        Item::Struct(item) => (&item.vis, &item.attrs, &item.ident),
        Item::Trait(item) => (&item.vis, &item.attrs, &item.ident),
        Item::Type(item) => (&item.vis, &item.attrs, &item.ident),
        _ => return None,
    };
    (is_public(vis) && !is_hidden(attrs)).then(|| name.to_string())
}

/// An item as a header file would have it.
fn listing(sources: &[Source], tree: &Tree, key: &Key) -> String {
    let source = sources.iter().find(|source| source.module == key.0).unwrap();
    let definition = source.items.iter().find(|item| public_name(item).as_ref() == Some(&key.1));
    let mut items: Vec<Item> = definition.cloned().into_iter().collect();
    let mut traits = BTreeMap::new();
    for source in sources {
        for item in &source.items {
            let Item::Impl(block) = item else { continue };
            if !is_of(block, source, tree, key) || is_hidden(&block.attrs) {
                continue;
            }
            let mut block = block.clone();
            block.attrs.clear();
            block.items.retain(|item| block.trait_.is_none() && is_public_method(item));
            if block.trait_.is_some() {
                let text = print(vec![Item::Impl(block)]);
                traits.insert(text, ());
            } else if !block.items.is_empty() {
                items.push(Item::Impl(block));
            }
        }
    }
    if items.is_empty() {
        // A macro makes it.
        return format!("// {}::{}\n", key.0.join("::"), key.1);
    }
    items.iter_mut().for_each(strip);
    print(items) + &traits.into_keys().collect::<String>()
}

fn is_of(block: &ItemImpl, source: &Source, tree: &Tree, key: &Key) -> bool {
    let Type::Path(of) = &*block.self_ty else { return false };
    let path: Vec<_> = of.path.segments.iter().map(|part| part.ident.to_string()).collect();
    path.last() == Some(&key.1)
        && matches!(tree.find(&source.module, &path, 0), Some(Found::Item(at)) if at == key.0)
}

fn is_public_method(item: &ImplItem) -> bool {
    match item {
        ImplItem::Fn(one) => is_public(&one.vis) && !is_hidden(&one.attrs),
        ImplItem::Const(one) => is_public(&one.vis) && !is_hidden(&one.attrs),
        _ => false,
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Whether an item is hidden, or there for our own tests alone.
fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => {
            let words = list.tokens.clone().into_iter().map(|token| match token {
                TokenTree::Ident(word) => word.to_string(),
                TokenTree::Literal(text) => text.to_string(),
                _ => String::new(),
            });
            let words: Vec<_> = words.collect();
            let has = |word: &str| words.iter().any(|one| one == word);
            list.path.is_ident("doc") && has("hidden")
                || list.path.is_ident("cfg") && has("\"internals\"")
        }
        _ => false,
    })
}

/// Leaves what an application sees: no comments, no private fields, no bodies.
fn strip(item: &mut Item) {
    let keep = |attrs: &mut Vec<Attribute>| {
        let kept = ["derive", "must_use", "non_exhaustive", "default"];
        attrs.retain(|one| kept.iter().any(|name| one.path().is_ident(name)));
    };
    let fields = |fields: &mut Fields, all: bool| {
        for field in fields.iter_mut() {
            keep(&mut field.attrs);
        }
        let mut named = std::mem::take(match fields {
            Fields::Named(named) => &mut named.named,
            Fields::Unnamed(unnamed) => &mut unnamed.unnamed,
            Fields::Unit => return,
        });
        named = named.into_iter().filter(|field| all || is_public(&field.vis)).collect();
        match fields {
            Fields::Named(to) => to.named = named,
            Fields::Unnamed(to) => to.unnamed = named,
            Fields::Unit => {}
        }
    };
    match item {
        Item::Struct(one) => {
            keep(&mut one.attrs);
            fields(&mut one.fields, false);
        }
        Item::Enum(one) => {
            keep(&mut one.attrs);
            for variant in &mut one.variants {
                keep(&mut variant.attrs);
                fields(&mut variant.fields, true);
            }
        }
        Item::Fn(one) => {
            keep(&mut one.attrs);
            one.block.stmts.clear();
        }
        Item::Const(one) => keep(&mut one.attrs),
        Item::Type(one) => keep(&mut one.attrs),
        Item::Trait(one) => keep(&mut one.attrs),
        Item::Impl(block) => {
            for item in &mut block.items {
                match item {
                    ImplItem::Fn(one) => {
                        keep(&mut one.attrs);
                        one.block.stmts.clear();
                    }
                    ImplItem::Const(one) => keep(&mut one.attrs),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn print(items: Vec<Item>) -> String {
    prettyplease::unparse(&syn::File { shebang: None, attrs: Vec::new(), items })
}
