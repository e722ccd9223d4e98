//! Messages of JSON-RPC 2.0: requests as they are read, and answers as they are written.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::cli::exit::Exit;
use crate::error::{Code, Error};

/// The line is not JSON.
pub(super) const NOT_JSON: i64 = -32_700;
/// The JSON is not a request.
pub(super) const NOT_A_REQUEST: i64 = -32_600;
/// There is no such method.
pub(super) const NO_SUCH_METHOD: i64 = -32_601;
/// The parameters do not fit the method.
pub(super) const WRONG_PARAMS: i64 = -32_602;
/// The number of an [`Error`] of the library is this one less its exit code.
const ERRORS: i64 = -32_000;

/// Why a request failed: the error with its number in JSON-RPC.
#[derive(Debug)]
pub(super) struct Failure {
    number: i64,
    error: Box<Error>,
}

impl Failure {
    /// An error of the protocol itself.
    pub(super) fn new(number: i64, message: impl Into<String>) -> Failure {
        Failure { number, error: Box::new(Error::usage(message)) }
    }

    /// The same with what to do about it.
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Failure {
        Failure { error: Box::new(self.error.with_hint(hint)), ..self }
    }

    /// The same with an error of the library in other words.
    pub(super) fn map(self, change: impl FnOnce(Error) -> Error) -> Failure {
        match self.number {
            NOT_JSON..=NOT_A_REQUEST => self,
            _ => Failure::from(change(*self.error)),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let number = ERRORS - i64::from(Exit::from(error.kind()).code());
        Failure { number, error: Box::new(error) }
    }
}

/// What a method gives: its result as JSON, or why it failed.
pub(super) type Outcome = Result<String, Failure>;

/// Who waits for an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Caller {
    /// The request with this id: a string, a number or null.
    Waits(Json),
    /// Nobody: the message is a notification.
    Nobody,
}

/// A request, or a notification.
#[derive(Debug)]
pub(super) struct Request {
    caller: Caller,
    method: String,
    params: Map<String, Json>,
}

impl Request {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// What is wrong, and who waits for an answer, as far as that can be told.
    pub(super) fn read(line: &[u8]) -> Result<Request, (Caller, Failure)> {
        let unknown = |failure| (Caller::Waits(Json::Null), failure);
        let message: Json = serde_json::from_slice(line).map_err(|error| {
            // The text of an error of syntax has a place, and nothing of the line.
            unknown(Failure::new(NOT_JSON, format!("the line is not JSON: {error}")))
        })?;
        let invalid = |message: &str| Failure::new(NOT_A_REQUEST, message);
        let mut message = match message {
            Json::Object(message) => message,
            Json::Array(_) => {
                return Err(unknown(
                    invalid("batches are not supported").with_hint("send one message per line"),
                ));
            }
            _ => return Err(unknown(invalid("the message is not an object"))),
        };
        let caller = match message.remove("id") {
            None => Caller::Nobody,
            Some(id @ (Json::String(_) | Json::Number(_) | Json::Null)) => Caller::Waits(id),
            Some(_) => return Err(unknown(invalid("`id` is not a string, a number or null"))),
        };
        // A message that is no request has no caller that could be relied on, unless it has an id.
        let failed = |failure| match &caller {
            Caller::Nobody => unknown(failure),
            caller => (caller.clone(), failure),
        };
        if message.remove("jsonrpc") != Some(Json::from("2.0")) {
            return Err(failed(invalid("`jsonrpc` is not \"2.0\"")));
        }
        let Some(Json::String(method)) = message.remove("method") else {
            return Err(failed(invalid("`method` is not a string")));
        };
        let params = match message.remove("params") {
            None => Map::new(),
            Some(Json::Object(params)) => params,
            Some(_) => {
                let failure = Failure::new(WRONG_PARAMS, "`params` is not an object")
                    .with_hint("parameters have names here");
                return Err((caller, failure));
            }
        };
        Ok(Request { caller, method, params })
    }

    /// Who waits for an answer, the method and its parameters.
    pub(super) fn into_parts(self) -> (Caller, String, Map<String, Json>) {
        (self.caller, self.method, self.params)
    }
}

/// `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what we write has text as its keys")
}

/// The answer to the request with this id.
pub(super) fn answer(id: &Json, outcome: &Outcome) -> String {
    match outcome {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Err(failure) => {
            #[derive(Serialize)]
            struct Data<'a> {
                code: Code,
                kind: &'a str,
                hint: Option<&'a str>,
                remote_code: Option<&'a str>,
            }
            let (number, error) = (failure.number, &failure.error);
            let data = json(&Data {
                code: error.code(),
                kind: error.kind().as_str(),
                hint: error.hint(),
                remote_code: error.remote_code(),
            });
            let message = json(&error.message());
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{number},"message":{message},"data":{data}}}}}"#
            )
        }
    }
}

/// A notification of ours.
pub(super) fn notification(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(line: &str) -> (Caller, i64) {
        let (caller, failure) = Request::read(line.as_bytes()).unwrap_err();
        (caller, failure.number)
    }

    #[test]
    fn what_is_no_request_is_answered_as_the_specification_says() {
        let nobody = || Caller::Waits(Json::Null);
        let seven = || Caller::Waits(Json::from(7));
        for line in ["", "{", "nonsense", "{\"a\":1}}", "\u{feff}{}", &"[".repeat(9_999)] {
            assert_eq!(number(line), (nobody(), NOT_JSON), "{line}");
        }
        for line in ["[]", "[1]", "1", "null", "{}", r#"{"jsonrpc":"2.0","result":1}"#] {
            assert_eq!(number(line), (nobody(), NOT_A_REQUEST), "{line}");
        }
        for id in ["{}", "[]", "true"] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"status"}}"#);
            assert_eq!(number(&line), (nobody(), NOT_A_REQUEST), "{line}");
        }
        for rest in
            [r#""method":"status""#, r#""jsonrpc":"2.0""#, r#""jsonrpc":"1.0","method":"x""#]
        {
            assert_eq!(number(&format!(r#"{{"id":7,{rest}}}"#)), (seven(), NOT_A_REQUEST));
        }
        let line = r#"{"jsonrpc":"2.0","id":7,"method":"open","params":["a.db"]}"#;
        assert_eq!(number(line), (seven(), WRONG_PARAMS));
    }

    #[test]
    fn an_error_of_syntax_has_nothing_of_the_line() {
        let line = br#"{"token":"a-secret-token" nonsense}"#;
        let (_, failure) = Request::read(line).unwrap_err();
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
    }

    #[test]
    fn ids_come_back_as_they_were() {
        for id in ["7", "-1", "1.5", "\"a\\n\"", "null", "18446744073709551615"] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"status"}}"#);
            let request = Request::read(line.as_bytes()).unwrap();
            let Caller::Waits(id_read) = request.caller else { panic!("{id}") };
            let answered = answer(&id_read, &Ok("1".to_owned()));
            assert_eq!(answered, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#));
        }
        let line = br#"{"jsonrpc":"2.0","method":"status"}"#;
        assert_eq!(Request::read(line).unwrap().caller, Caller::Nobody);
    }
}
