//! Fields that other files may write, structs with many fields, and parameters that are tuples.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{Attribute, Expr, FnArg, ImplItemFn, ItemFn, ItemMod, ItemStruct, Lit, Meta};
use syn::{Signature, Type, Visibility};

use super::ratchets::{self, Ratchet};
use super::source::{is_for_tests, sources};

/// A struct with more fields than this is listed.
const FIELDS: usize = 15;

/// What the documentation of a struct says if its fields are those of a format: a table, a frame,
/// or JSON. It cannot be smaller than the format.
const RECORD: &str = "flat record";

/// What the structs and functions of one file have.
#[derive(Default)]
struct Seen {
    /// `line: Struct.field`, of fields that some other files may write.
    restricted: Vec<String>,
    /// Of fields that are `pub` in a struct that is not.
    public: Vec<String>,
    /// Each struct that is not a record, and how many fields it has.
    structs: Vec<(String, usize)>,
    /// Each [`RECORD`].
    records: Vec<(String, usize)>,
    /// `line: function(type)`.
    tuples: Vec<String>,
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let is_public = matches!(item.vis, Visibility::Public(_));
        for (index, field) in item.fields.iter().enumerate() {
            let to = match field.vis {
                Visibility::Restricted(_) => &mut self.restricted,
                Visibility::Public(_) if !is_public => &mut self.public,
                Visibility::Public(_) | Visibility::Inherited => continue,
            };
            let name = field.ident.as_ref().map_or(index.to_string(), ToString::to_string);
            let line = field.ident.as_ref().unwrap_or(&item.ident).span().start().line;
            to.push(format!("{line}: {}.{name}", item.ident));
        }
        let is_record = documentation(&item.attrs).contains(RECORD);
        let list = if is_record { &mut self.records } else { &mut self.structs };
        list.push((item.ident.to_string(), item.fields.len()));
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        for argument in &signature.inputs {
            let FnArg::Typed(argument) = argument else {
                continue;
            };
            let mut of: &Type = &argument.ty;
            while let Type::Reference(reference) = of {
                of = &reference.elem;
            }
            if let Type::Tuple(tuple) = of {
                let line = tuple.paren_token.span.open().start().line;
                let count = tuple.elems.len();
                let name = &signature.ident;
                self.tuples.push(format!("{line}: {name}: a tuple of {count}"));
            }
        }
    }
}

/// The text of the doc comments.
fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    });
    lines.collect()
}

/// What each file has.
fn seen() -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    for source in sources() {
        let mut seen = Seen::default();
        source.items.iter().for_each(|item| seen.visit_item(item));
        all.insert(source.path, seen);
    }
    assert!(all.values().map(|seen| seen.structs.len()).sum::<usize>() > 200);
    all
}

/// The files that have some, with how many and where.
fn places(seen: &BTreeMap<String, Seen>, of: fn(&Seen) -> &Vec<String>) -> (usize, Vec<String>) {
    let (mut total, mut places) = (0, Vec::new());
    for (path, seen) in seen {
        let here = of(seen);
        if !here.is_empty() {
            total += here.len();
            places.push(format!("{path}: {}", here.len()));
            places.extend(here.iter().map(|place| format!("  {path}:{place}")));
        }
    }
    (total, places)
}

#[test]
fn fields_belong_to_their_file() {
    let seen = seen();
    let (restricted, restricted_places) = places(&seen, |seen| &seen.restricted);
    let (public, public_places) = places(&seen, |seen| &seen.public);
    Ratchet::check(&[
        Ratchet {
            what: "fields that other files may write",
            name: "WRITABLE_FIELDS",
            bound: ratchets::WRITABLE_FIELDS,
            found: restricted,
            places: &restricted_places,
        },
        Ratchet {
            what: "public fields of structs that are not public",
            name: "PUBLIC_FIELDS",
            bound: ratchets::PUBLIC_FIELDS,
            found: public,
            places: &public_places,
        },
    ]);
}

#[test]
fn parameters_are_not_packed_in_tuples() {
    let (found, places) = places(&seen(), |seen| &seen.tuples);
    Ratchet::check(&[Ratchet {
        what: "parameters that are tuples",
        name: "TUPLES",
        bound: ratchets::TUPLES,
        found,
        places: &places,
    }]);
}

#[test]
fn structs_are_small() {
    let seen = seen();
    let structs = seen.values().flat_map(|seen| seen.structs.iter().cloned());
    ratchets::check_list("LARGE_STRUCTS", FIELDS, structs, ratchets::LARGE_STRUCTS);
    let records = seen.values().flat_map(|seen| seen.records.iter().cloned());
    ratchets::check_list("LARGE_RECORDS", FIELDS, records, ratchets::LARGE_RECORDS);
}
