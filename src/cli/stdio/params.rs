//! The parameters of a request, taken one by one by their names.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::message::{Failure, WRONG_PARAMS};

/// The parameters that were not taken yet.
pub(super) struct Params {
    method: String,
    left: Map<String, Json>,
    known: Vec<&'static str>,
}

impl Params {
    /// The parameters of a method.
    pub(super) fn new(method: &str, left: Map<String, Json>) -> Params {
        Params { method: method.to_owned(), left, known: Vec::new() }
    }

    /// The parameter `name`, which may be missing or null.
    ///
    /// # Errors
    ///
    /// If it is of another type. The message does not repeat the value: it may be a token.
    pub(super) fn option<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Failure> {
        self.known.push(name);
        match self.left.remove(name) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => match serde_json::from_value(value) {
                Ok(value) => Ok(Some(value)),
                Err(error) => Err(self.wrong(name, &expected(&error.to_string()))),
            },
        }
    }

    /// The parameter `name`.
    ///
    /// # Errors
    ///
    /// As for [`Params::option`], and if it is missing.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, Failure> {
        let found = self.option(name)?;
        found.ok_or_else(|| self.wrong(name, "is missing"))
    }

    /// The error of a parameter.
    pub(super) fn wrong(&self, name: &str, what: &str) -> Failure {
        Failure::new(WRONG_PARAMS, format!("`{name}` of `{}` {what}", self.method))
    }

    /// The end: all parameters must have been taken.
    ///
    /// # Errors
    ///
    /// If one was not. It is named.
    pub(super) fn end(&self) -> Result<(), Failure> {
        let Some(name) = self.left.keys().next() else { return Ok(()) };
        let known: Vec<_> = self.known.iter().map(|name| format!("`{name}`")).collect();
        let hint = match known.is_empty() {
            true => "it has none".to_owned(),
            false => format!("its parameters are {}", known.join(", ")),
        };
        Err(self.wrong(name, "is not known").with_hint(hint))
    }
}

/// The second part of an error of serde's, which says what it expected; the first has the value.
fn expected(error: &str) -> String {
    match error.rsplit_once(", expected ") {
        Some((_, expected)) => format!("is not valid: expected {expected}"),
        None => "is not valid".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        Params::new("open", serde_json::from_str(text).unwrap())
    }

    #[test]
    fn an_error_names_the_parameter_and_not_its_value() {
        let text = |failure: Failure| format!("{failure:?}");
        let mut wrong = params(r#"{"token":["secret"],"tables":"secret","rule":"secret"}"#);
        let errors = [
            text(wrong.take::<String>("token").unwrap_err()),
            text(wrong.take::<Vec<String>>("tables").unwrap_err()),
            text(wrong.take::<bool>("rule").unwrap_err()),
        ];
        for (error, name) in errors.iter().zip(["`token`", "`tables`", "`rule`"]) {
            assert!(error.contains(name) && !error.contains("secret"), "{error}");
            assert!(error.contains("expected a "), "{error}");
        }
        let missing = text(params("{}").take::<String>("file").unwrap_err());
        assert!(missing.contains("`file` of `open` is missing"), "{missing}");
    }

    #[test]
    fn a_parameter_that_is_not_known_is_refused() {
        let mut all = params(r#"{"file":"a.db","tabels":[]}"#);
        assert_eq!(all.option::<String>("file").unwrap().as_deref(), Some("a.db"));
        assert_eq!(all.option::<Vec<String>>("tables").unwrap(), None);
        let error = format!("{:?}", all.end().unwrap_err());
        assert!(error.contains("`tabels`") && error.contains("`file`, `tables`"), "{error}");
    }
}
