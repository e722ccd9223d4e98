//! `run --stdio`: the protocol of the sidecar. Each message is held against `schema/sidecar.json`.

mod client;
mod hostile;
mod life;
mod methods;
mod pressure;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

use super::Folder;

/// A file of the repository.
fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// What the schema says of the definition `name`.
fn definition(name: &str) -> Json {
    let schema: Json = serde_json::from_str(&file("schema/sidecar.json")).unwrap();
    schema["$defs"][name].clone()
}

fn words(list: &Json) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn names(object: &Json) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_schema_and_the_page_have_every_method() {
    let folder = Folder::new();
    let mut client = client::Client::start(&folder, "run --stdio");
    let agreed = client.agree();
    assert_eq!(words(&agreed["methods"]), names(&definition("Methods")["properties"]));
    assert_eq!(words(&agreed["notifications"]), names(&definition("Notifications")["properties"]));
    let documented = file("docs/sidecar.md");
    for method in words(&agreed["methods"]) {
        assert!(documented.contains(&format!("| `{method}` |")), "{method} is not documented");
    }
}
