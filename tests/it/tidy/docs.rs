//! What the documents name is there: tests, modules, golden scripts, files, and what they link to.

use std::fs;
use std::path::{Path, PathBuf};

/// Tests that run golden scripts, and where those are.
const RUNNERS: [(&str, &str); 5] = [
    ("capture::scripts::every_script", "fixtures/scripts/capture"),
    ("sync::scripts::every_script", "fixtures/scripts/sync"),
    ("sync::machine::every_script", "fixtures/scripts/machine"),
    ("verdict::golden::scripts", "fixtures/scripts/verdict"),
    ("cli::scripts::golden_scripts", "fixtures/scripts/cli"),
];

/// Folders whose files documents name by their paths.
const FOLDERS: [&str; 9] = [
    "src/",
    "tests/",
    "fixtures/",
    "schema/",
    "docs/",
    "benches/",
    "examples/",
    "fuzz/",
    "bindings/",
];

/// The failures that have a test by their number: `f07_…`, or a script that begins with `# F07.`.
const NUMBERS: [u32; 47] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 22, 23, 24, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 36, 38, 39, 40, 41, 44, 46, 50, 54, 55, 56, 57, 71, 72, 75,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, by their paths from the root.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![PathBuf::from("README.md")];
    paths.extend(super::files("docs", ".md").into_iter().map(|(path, _)| PathBuf::from(path)));
    paths.push(PathBuf::from("bindings/node/README.md"));
    assert!(paths.len() > 10, "{paths:?}");
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(root().join(path)).unwrap());
    paths.into_iter().map(read).collect()
}

/// The text of the module at `path`, `a::b`, below `folder`.
fn module(folder: &str, path: &str) -> Option<String> {
    let file = root().join(folder).join(path.replace("::", "/"));
    let texts = [file.with_extension("rs"), file.join("mod.rs")];
    texts.iter().find_map(|path| fs::read_to_string(path).ok())
}

/// Whether the library's public surface has the module or the function `path`, `driftless::a::b`.
fn is_public(path: &str) -> bool {
    let surface = fs::read_to_string(root().join("fixtures/surface.txt")).unwrap();
    let section = |place: &str| {
        let mut sections = surface.split("\n// driftless");
        sections.find_map(|section| section.strip_prefix(&format!("{place}\n")).map(str::to_owned))
    };
    let place = path.strip_prefix("driftless").unwrap();
    let function = || {
        let (place, name) = place.rsplit_once("::")?;
        section(place)?.contains(&format!("fn {name}(")).then_some(())
    };
    section(place).is_some() || function().is_some()
}

/// Whether there is a module of this path, or a function in one.
fn is_there(path: &str) -> bool {
    if path.starts_with("driftless::") {
        return is_public(path);
    }
    let function = |folder: &str| {
        let (parent, name) = path.rsplit_once("::")?;
        let text = module(folder, parent)?;
        // What a generated name begins with is enough: `f07_…`.
        let begins = name.strip_suffix('…');
        let has = |end: &str| text.contains(&format!("fn {}{end}", begins.unwrap_or(name)));
        (if begins.is_some() { has("") } else { has("(") || has("<") }).then_some(())
    };
    ["tests/it", "src"]
        .into_iter()
        .any(|folder| module(folder, path).is_some() || function(folder).is_some())
}

/// The words in backticks of a document without its blocks of code, and what stands between them.
fn words(text: &str) -> Vec<(String, String)> {
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence && !line.starts_with("    ") {
            prose += line;
            prose.push(' ');
        }
    }
    let mut parts = prose.split('`').map(str::to_owned);
    let mut words = Vec::new();
    parts.next();
    while let (Some(word), Some(behind)) = (parts.next(), parts.next()) {
        words.push((word, behind));
    }
    words
}

/// Whether a word looks like a path of Rust in lower case: a module, a function, a test.
fn is_path(word: &str) -> bool {
    let segment = |part: &str| {
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c);
        !part.is_empty() && part.chars().all(lower)
    };
    word.contains("::") && word.split("::").all(segment)
}

/// Whether a word looks like the name of a test of a known failure, `f07_lost_acknowledgement`.
fn is_test(word: &str) -> bool {
    let number = word.strip_prefix('f').and_then(|rest| rest.split_once('_')).map(|(n, _)| n);
    number.is_some_and(|n| n.len() == 2 && n.bytes().all(|byte| byte.is_ascii_digit()))
        && !word.contains('…')
}

#[test]
fn what_documents_name_is_there() {
    let (mut missing, mut seen) = (Vec::new(), 0);
    for (document, text) in documents() {
        let (mut scripts, mut earlier) = (None, None::<String>);
        for (word, behind) in words(&text) {
            let named = FOLDERS.iter().any(|folder| word.starts_with(folder));
            // What fuzzing leaves behind is not there before it does.
            let plain = !word.contains([' ', '*', '…', '<']) && word != "fuzz/artifacts/";
            let known = match scripts {
                Some(folder) if !named => root().join(folder).join(&word).is_file(),
                _ if named && plain => root().join(word.split(':').next().unwrap()).exists(),
                _ if is_path(&word) => is_there(&word),
                // In the module that was named before it.
                _ if is_test(&word) => earlier.iter().any(|path| {
                    let parent = path.rsplit_once("::").map_or("", |(parent, _)| parent);
                    is_there(&format!("{parent}::{word}"))
                }),
                _ => continue,
            };
            seen += 1;
            if is_path(&word) {
                earlier = Some(word.clone());
            }
            if !known {
                missing.push(format!("{}: `{word}`", document.display()));
            }
            // Golden scripts stand in brackets behind the test that runs them.
            if let Some((_, folder)) = RUNNERS.iter().find(|(runner, _)| *runner == word) {
                scripts = behind.starts_with(" (").then_some(*folder);
            } else if behind.starts_with(')') {
                scripts = None;
            }
        }
    }
    assert!(missing.is_empty(), "no such thing:\n{}", missing.join("\n"));
    assert!(seen > 150, "only {seen} names were found");
}

/// The anchor that a heading gets: in lower case, with dashes for spaces and no punctuation.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let (mut missing, mut seen) = (Vec::new(), 0);
    for (document, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            seen += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => root().join(&document),
                file => root().join(document.parent().unwrap()).join(file),
            };
            let there = match fs::read_to_string(&path) {
                Ok(_) if heading.is_empty() => true,
                Ok(text) => {
                    text.lines().any(|line| line.starts_with('#') && anchor(line) == heading)
                }
                Err(_) => path.is_dir() && heading.is_empty(),
            };
            if !there {
                missing.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "links that lead nowhere:\n{}", missing.join("\n"));
    assert!(seen > 30, "only {seen} links were found");
}

/// The line of docs/testing.md for a number names the modules and scripts that have its tests.
#[test]
fn each_known_failure_has_a_test_by_its_number() {
    let testing = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    for number in NUMBERS.into_iter().chain([47]) {
        let begins = format!("| F{number:02} ");
        let line = testing.lines().find(|line| line.starts_with(&begins));
        let line = line.unwrap_or_else(|| panic!("docs/testing.md has no F{number:02}"));
        let places: Vec<_> = words(line).into_iter().map(|(word, _)| word).collect();
        let places = places.iter().filter(|word| is_path(word) || !word.contains(['(', ' ']));
        let mut found = 0;
        for place in places {
            let holds = match module("tests/it", place) {
                Some(text) => text.contains(&format!("fn f{number:02}_")),
                None => fs::read_to_string(root().join(place))
                    .is_ok_and(|text| text.starts_with(&format!("# F{number:02}."))),
            };
            // SQLite's functions and the like stand there too.
            let is_place = place.contains('/') || module("tests/it", place).is_some();
            assert!(holds || !is_place, "{place} has no test of F{number:02}");
            found += usize::from(holds);
        }
        assert!(found > 0, "F{number:02} has no test");
    }
}

/// What a bug takes away, with the lines about it, stands in the sources: so it can be planted, and
/// is planted where it belongs.
#[test]
fn each_bug_to_plant_fits_the_sources() {
    // With both of its ends, so that a part of a line is not found in a longer one.
    let whole_line = |line: &str| format!("\n{line}\n");
    let folder = root().join("fixtures/mutations");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        let patch = fs::read_to_string(&path).unwrap();
        let mut source = String::new();
        // What stood in front of the first hunk is no part of one.
        for (number, hunk) in patch.split("\n@@").enumerate() {
            let lines = || hunk.lines().skip(1);
            if number > 0 {
                let old = lines().filter_map(|line| line.strip_prefix([' ', '-']));
                let old = old.take_while(|line| !line.starts_with("-- "));
                let old: String = old.map(whole_line).collect();
                assert!(!old.is_empty() && source.contains(&old), "{}", path.display());
            }
            if let Some(name) = lines().find_map(|line| line.strip_prefix("+++ b/")) {
                let text = fs::read_to_string(root().join(name)).unwrap();
                source = text.lines().map(whole_line).collect();
            }
        }
        count += 1;
    }
    assert!(count > 20, "{count} bugs");
}
