//! Errors are recognised by their codes. No code matches the words of a message.

use super::{assert_none, code, files};

/// Where words are matched: those of servers and libraries, not of driftless.
const KNOWER: &str = "src/remote/failure/";

/// What gives the words of an error or of a status.
const WORDS: [&str; 6] =
    ["message()", "hint()", "to_string()", "trouble", "trouble.as_deref()", "error"];

/// What looks for words in words. A quote or a constant follows.
const MATCHES: [&str; 8] = [
    "contains(",
    "starts_with(",
    "ends_with(",
    "strip_prefix(",
    "strip_suffix(",
    "split_once(",
    "find(",
    "eq_ignore_ascii_case(",
];

/// The product's code in `text`, whatever its unit tests are compiled for.
fn product(text: &str) -> String {
    let code = code(text).map(|(_, line)| line);
    let is_product = |line: &&str| !line.starts_with("#[cfg(all(test");
    code.take_while(is_product).collect::<Vec<_>>().join("\n")
}

/// The places in `text`, without its spaces, where words are matched with a literal or a constant.
fn matches(text: &str) -> Vec<String> {
    let text: String = text.split_whitespace().collect();
    let mut found = Vec::new();
    for words in WORDS {
        for matched in MATCHES {
            let call = format!("{words}.{matched}");
            for (at, _) in text.match_indices(&call) {
                let argument = text[at + call.len()..].chars().next().unwrap_or(' ');
                if argument == '"' || argument.is_ascii_uppercase() {
                    found.push(text[at..].chars().take(80).collect());
                }
            }
        }
        for compared in [format!("{words}==\""), format!("{words}!=\"")] {
            let places = text.match_indices(&compared);
            found.extend(places.map(|(at, _)| text[at..].chars().take(80).collect::<String>()));
        }
    }
    found
}

#[test]
fn errors_are_recognised_by_their_codes() {
    let mut found = Vec::new();
    for (path, text) in files("src", ".rs") {
        if path.starts_with(KNOWER) || path.ends_with("tests.rs") {
            continue;
        }
        found.extend(matches(&product(&text)).iter().map(|place| format!("{path}: {place}")));
    }
    assert_none("an error is recognised by its code, not by its words", &found);
}

#[test]
fn what_matches_words_is_found() {
    for wrong in [
        "error.message().contains(\"the token\")",
        "if error.message()\n    .starts_with(\"the local \") {}",
        "error.message().contains(NO_TABLE)",
        "trouble.contains(\"is gone\")",
        "error.to_string() == \"no\"",
    ] {
        assert_eq!(matches(wrong).len(), 1, "{wrong}");
    }
    for right in [
        "error.message().contains(token.expose())",
        "error.code() == Code::TokenRefused",
        "sql.contains(\"CREATE\")",
    ] {
        assert_eq!(matches(right), Vec::<String>::new(), "{right}");
    }
}
