//! The sources of `src/`, parsed, without what only tests compile.

use proc_macro2::TokenTree;
use syn::{Attribute, Item, Meta};

use super::files;

/// A file of `src/`.
pub(super) struct Source {
    /// Its path from the repository's root.
    pub(super) path: String,
    /// Its module: `["store", "outbox"]`. `lib.rs` and `main.rs` have none.
    pub(super) module: Vec<String>,
    /// Its items, without those that only tests compile.
    pub(super) items: Vec<Item>,
}

/// All files of `src/` that are compiled into the product.
pub(super) fn sources() -> Vec<Source> {
    let sources = files("src", ".rs").into_iter().map(|(path, text)| Source::new(path, &text));
    sources.filter(|source| source.module.last().is_none_or(|name| name != "tests")).collect()
}

impl Source {
    /// The file at `path`, whose text is `text`.
    pub(super) fn new(path: String, text: &str) -> Self {
        let name = path.trim_start_matches("src/").trim_end_matches(".rs");
        let module = match name.trim_end_matches("/mod") {
            "lib" | "main" => Vec::new(),
            name => name.split('/').map(str::to_owned).collect(),
        };
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let items = file.items.into_iter().filter(|item| !is_for_tests(attributes(item)));
        Self { items: items.collect(), path, module }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item has `#[cfg(test)]`, `#[cfg(all(test, …))]` or `#[cfg(doctest)]`.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => has_test(list.tokens.clone()),
        _ => false,
    })
}

fn has_test(tokens: proc_macro2::TokenStream) -> bool {
    let mut negated = false;
    for token in tokens {
        match token {
            TokenTree::Ident(word) if word == "test" || word == "doctest" => return true,
            TokenTree::Ident(word) => negated = word == "not",
            TokenTree::Group(group) if !negated && has_test(group.stream()) => return true,
            _ => {}
        }
    }
    false
}
