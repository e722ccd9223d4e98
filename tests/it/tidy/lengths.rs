//! How long a function, a file, a line and a folder may be, and that nothing is left to do.

use std::collections::BTreeMap;

use super::{assert_none, files, ratchets};

/// The most lines of a file of `src/`.
const FILE_LINES: usize = 600;
/// The most lines of a function of `src/`.
const FUNCTION_LINES: usize = 70;
/// The most files of a folder of `src/`.
const FOLDER_FILES: usize = 12;
/// The most characters of a line.
const COLUMNS: usize = 100;

#[test]
fn files_and_functions_are_short() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        let lines = text.lines().count();
        if lines > FILE_LINES {
            found.push(format!("{path} has {lines} lines"));
        }
        // rustfmt puts a function's closing brace under its first word.
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let begins = word.starts_with("fn ")
                || word.contains(" fn ") && word.starts_with("pub")
                || word.starts_with("async fn ")
                || word.starts_with("const fn ");
            if open.is_none() && begins && !word.ends_with(';') {
                open = Some((number, indent, word));
            }
            if let Some((first, at, name)) = open
                && indent == at
                && (word == "}" || word.ends_with('}') && number == first)
            {
                let length = number - first + 1;
                if length > FUNCTION_LINES {
                    found.push(format!("{path}:{}: {length} lines: {name}", first + 1));
                }
                open = None;
            }
        }
    }
    assert_none("functions and files are short", &found);
}

#[test]
fn lines_are_short_and_nothing_is_left_to_do() {
    let mut found = Vec::new();
    // Put together, so that this file does not find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!("].concat()];
    let ignored = ["#[", "ignore"].concat();
    for folder in ["src", "tests", "benches", "examples"] {
        for (path, text) in files(folder, ".rs") {
            for (number, line) in text.lines().enumerate() {
                // rustfmt leaves a long string as it is.
                let literal = line.contains('"') || line.trim_end().ends_with('\\');
                let in_sql = path.starts_with("tests/");
                if line.chars().count() > COLUMNS && !literal && !in_sql {
                    found.push(format!("{path}:{}: a long line", number + 1));
                }
                if marks.iter().any(|mark| line.contains(mark)) || line.contains(&ignored) {
                    found.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert_none("lines are short, and what is there is done", &found);
}

#[test]
fn folders_are_small() {
    let mut folders = BTreeMap::<_, usize>::new();
    for (path, _) in files("src", ".rs") {
        *folders.entry(path.rsplit_once('/').unwrap().0.to_owned()).or_default() += 1;
    }
    let folders = folders.into_iter();
    ratchets::check_list("LARGE_FOLDERS", FOLDER_FILES, folders, ratchets::LARGE_FOLDERS);
}

#[test]
fn the_product_is_small() {
    let lines: usize = files("src", ".rs").iter().map(|(_, text)| text.lines().count()).sum();
    let bound = ratchets::LINES;
    assert!(lines <= bound, "src/ has {lines} lines, which is more than {bound} (LINES)");
}
